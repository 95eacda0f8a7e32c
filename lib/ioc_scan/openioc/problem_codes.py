"""Every code a check of an IOC file can give, its severity and meaning. Codes never change their meaning.

``refused`` codes stop the reading of a file (they are errors and the only problem of that file).
"""

from __future__ import annotations

from ioc_scan.openioc.model import Problem

ERROR, WARNING = "error", "warning"

#: The file is not read any further.
REFUSALS = {
    "attribute_too_long": "an attribute is beyond the bound",
    "bad_flag": "negate or preserve-case is neither true nor false",
    "child_in_content": "Content holds an element instead of text",
    "doctype_refused": "a DOCTYPE could inject content, from this file or from elsewhere",
    "duplicate_element": "a part that decides the logic stands twice",
    "encoding_invalid": "bytes that the encoding does not allow",
    "encoding_refused": "an encoding that can hide markup, or that does not fit the bytes",
    "entity_refused": "an entity reference is left in the text",
    "file_empty": "no content",
    "file_too_large": "beyond the byte cap",
    "item_outside_indicator": "an IndicatorItem outside of any Indicator",
    "missing_context": "an IndicatorItem does not say where to look",
    "missing_operator": "an Indicator without AND or OR",
    "no_logic": "no definition, no criteria, or no Indicator in it",
    "not_openioc": "another kind of XML document",
    "not_xml": "not XML at all, or packed",
    "prolog_too_long": "too much before the root element",
    "too_deep": "elements nested beyond the bound",
    "too_many_attributes": "more attributes on one element than the bound",
    "too_many_elements": "more elements than the bound",
    "too_many_links": "more links than the bound",
    "too_many_parameters": "more parameters than the bound",
    "unknown_logic": "an element in the logic that has no meaning there",
    "unknown_operator": "an operator other than AND and OR",
    "xml_declaration": "the XML declaration is not well formed",
    "xml_malformed": "not well-formed XML",
    "unreadable": "the file cannot be opened or read",
}

ERRORS = {
    "collection_too_large": "the files of one task together are beyond Kaspersky's limit",
    "condition_missing": "an item without condition",
    "condition_unknown": "a condition OpenIOC does not have",
    "content_too_long": "the content is beyond the bound",
    "contradiction": "an AND that no single item can satisfy",
    "duplicate_document_id": "two files of one task have the same id",
    "never_matches": "every item is unusable by its own content or condition, so the file never matches",
    "pattern_refused": "a regular expression that has no linear time, or is none",
    "plan_too_large": "the compiled plan is beyond a bound",
    "too_many_patterns": "more regular expressions than the bound; the file is not judged further",
    "too_many_branches": "an AND over several documents is beyond the bound",
}

WARNINGS = {
    "attribute_of_1_1": "a 1.0 file uses an attribute of 1.1; it is honoured",
    "bad_date": "a date of the metadata cannot be read",
    "comment_in_1_1": "a Comment in a 1.1 file; 1.1 keeps comments as parameters",
    "condition_of_1_0": "a 1.1 file uses a condition of 1.0; it is honoured",
    "condition_of_1_1": "a 1.0 file uses a condition of 1.1; it is honoured",
    "condition_type": "a condition that the term's type does not allow; the item is not evaluated",
    "content_empty": "an item without content never matches",
    "content_spaces": "white space around the content is compared too",
    "content_type": "the content cannot be what the term holds; the item is not evaluated",
    "content_type_name": "the type named in Content is not that of the term",
    "date_zone": "a date without time zone is read as UTC",
    "document_mismatch": "document and search name different documents; search decides",
    "duplicate_id": "two nodes have the same id: a proof cannot tell them apart",
    "element_order": "metadata out of the schema's order",
    "encoding_unusual": "an encoding other tools may not read",
    "indicator_empty": "an Indicator without children never holds",
    "item_order": "items after nested Indicators; the order has no meaning",
    "item_repeated": "the same item twice in one Indicator",
    "many_items": "very many indicator items",
    "missing_attribute": "an attribute 1.1 requires is missing; its default counts",
    "missing_authored_date": "no authored_date",
    "missing_content": "an item without Content never matches",
    "missing_id": "a node without id",
    "missing_last_modified": "no last-modified",
    "missing_metadata": "a 1.1 file without metadata",
    "missing_published_date": "a 1.1 file without published-date",
    "missing_rel": "a 1.1 link without rel",
    "more_of_the_same": "the rest of many problems of one code",
    "nothing_to_evaluate": "no item of the file is on a term of the table; nothing here evaluates it",
    "operator_spelling": "and, or in lower case",
    "over_broad": "it matches too much to be acted on",
    "parameter_reference": "a parameter refers to nothing in the file",
    "pattern_nested": "a regular expression on which other tools may hang",
    "preserve_case_type": "preserve-case on a value that has no case",
    "range_empty": "no value lies in the range; the item never matches",
    "repeated_element": "a part of the metadata stands twice, the first counts",
    "stray_text": "text where none belongs",
    "term_spelling": "a term in another spelling",
    "term_unsupported": "nothing collects the term there; the item is not evaluated",
    "unknown_attribute": "an attribute that is left out",
    "unknown_element": "an element that is left out",
    "unknown_term": "a term that is not in the table; the item is not evaluated",
}


def severity_of(code: str) -> str:
    """ "error" or "warning". Raises KeyError for a code that does not exist."""
    if code in WARNINGS:
        return WARNING
    if code in ERRORS or code in REFUSALS:
        return ERROR
    raise KeyError(code)


def problem(code: str, line: int, message: str, hint: str = "") -> Problem:
    """A problem with the severity of its code."""
    return Problem(code, severity_of(code), line, message, hint)
