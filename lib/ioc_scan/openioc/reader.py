"""OpenIOC 1.0 and 1.1 from bytes: what would change the meaning is refused, harmless deviations are noted."""

from __future__ import annotations

from lxml import etree

from ioc_scan.openioc.model import NO_DATE, Indicator, Ioc, Item, Link, Node, Parameter, Problem
from ioc_scan.openioc.problem_codes import problem
from ioc_scan.openioc.secure_xml import MAX_FILE_BYTES, IocRefused, line_of, parse
from ioc_scan.text import printable

NAMESPACES = {
    "1.0": "http://schemas.mandiant.com/2010/ioc",
    "1.1": "http://openioc.org/schemas/OpenIOC_1.1",
}
ROOTS = {"1.0": "ioc", "1.1": "OpenIOC"}
METADATA = ("short_description", "description", "keywords", "authored_by", "authored_date", "links")
#: words of 1.0 -> words of the model
NEGATED = {"isnot": "is", "containsnot": "contains"}
CONDITIONS = ("is", "contains", "matches", "starts-with", "ends-with", "greater-than", "less-than")
MAX_LINKS = 1000
MAX_PARAMETERS = 10_000


def read_ioc(data: bytes, *, max_bytes: int = MAX_FILE_BYTES) -> Ioc:
    """Read one document. Raises IocRefused (an InputError with a line).

    What was forgiven is in ``Ioc.notes``: problems of severity warning.
    """
    root, codec = parse(data, max_bytes)
    version = document_version(root)
    reader = DocumentReader(version)
    if codec not in ("utf-8", "ascii"):
        reader.note(
            "encoding_unusual", root, f"the file is {codec}; other tools may not read it", "save it as UTF-8"
        )
    return reader.document(root)


def document_version(root: etree._Element) -> str:
    """ "1.0" or "1.1", by the namespace of the root element. Raises IocRefused."""
    for version, namespace in NAMESPACES.items():
        if root.tag == f"{{{namespace}}}{ROOTS[version]}":
            return version
    name = etree.QName(root)
    if (name.localname, name.namespace) == ("ioc", None):
        hint = f'the root element needs xmlns="{NAMESPACES["1.0"]}"'
    else:
        hint = "an OpenIOC root is ioc (1.0) or OpenIOC (1.1); .ioc is also a project file of STM32CubeMX"
    raise IocRefused("not_openioc", f"the root element is {printable(root.tag, 120)}", hint, line_of(root))


class DocumentReader:
    """Elements of one document to the model; ``notes`` collects what was forgiven."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.namespace = "{" + NAMESPACES[version] + "}"
        self.notes: list[Problem] = []

    def note(self, code: str, element: etree._Element, message: str, hint: str = "") -> None:
        self.notes.append(problem(code, line_of(element), message, hint))

    def name(self, element: etree._Element) -> str:
        """The local name of an element of our namespace; others keep their braces and so are unknown."""
        tag = element.tag
        return tag[len(self.namespace) :] if tag.startswith(self.namespace) else tag

    def unknown(self, element: etree._Element, parent: str) -> None:
        self.note(
            "unknown_element", element, f"{printable(self.name(element), 80)} in {parent} is left out", ""
        )

    def attributes(self, element: etree._Element, known: tuple[str, ...]) -> None:
        for name in element.attrib:
            if name not in known and not str(name).startswith("{http://www.w3.org/"):
                self.note("unknown_attribute", element, f"attribute {printable(name, 80)} is left out", "")

    # ------------------------------------------------------------------------------------------ document

    def document(self, root: etree._Element) -> Ioc:
        self.attributes(root, ("id", "last-modified", "published-date"))
        ioc = Ioc(version=self.version, id=root.get("id") or "", notes=self.notes)
        if not ioc.id:
            self.note("missing_id", root, "the document has no id", "give it a UUID")
        ioc.last_modified = root.get("last-modified")
        ioc.published_date = root.get("published-date")
        logic = "definition" if self.version == "1.0" else "criteria"
        top: dict[str, etree._Element] = {}
        metadata: list[etree._Element] = []
        for child in root:
            name = self.name(child)
            known = (logic, "metadata", "parameters") if self.version == "1.1" else (logic,)
            if name in known:
                if name in top:
                    raise IocRefused("duplicate_element", f"{name} stands twice", "", line_of(child))
                top[name] = child
            elif self.version == "1.0" and name in METADATA:
                metadata.append(child)
                if logic in top:
                    self.note("element_order", child, f"{name} stands after {logic}", "")
            else:
                self.unknown(child, self.name(root))
        if self.version == "1.1":
            if "metadata" in top:
                metadata = list(top["metadata"])
            else:
                self.note("missing_metadata", root, "there is no metadata element", "")
        self.metadata(ioc, metadata)
        self.dates(ioc, root)
        if logic not in top:
            raise IocRefused(
                "no_logic",
                f"there is no {logic} element",
                "nothing could ever match",
                line_of(root),
            )
        for child in top[logic]:
            if self.name(child) == "Indicator":
                ioc.roots.append(self.indicator(child))
            elif self.name(child) == "IndicatorItem":
                raise IocRefused(
                    "item_outside_indicator",
                    f"an IndicatorItem stands directly in {logic}",
                    "",
                    line_of(child),
                )
            else:
                self.unknown(child, logic)
        if not ioc.roots:
            raise IocRefused(
                "no_logic",
                f"{logic} holds no Indicator",
                "nothing could ever match",
                line_of(top[logic]),
            )
        if "parameters" in top:
            self.parameters(ioc, top["parameters"])
        return ioc

    def dates(self, ioc: Ioc, root: etree._Element) -> None:
        if ioc.last_modified is None:
            self.note("missing_last_modified", root, "the document has no last-modified", "")
        if ioc.authored_date is None:
            self.note("missing_authored_date", root, "the document has no authored_date", "")
        if self.version == "1.1" and ioc.published_date is None:
            self.note(
                "missing_published_date", root, "the document has no published-date", f"tools write {NO_DATE}"
            )

    def metadata(self, ioc: Ioc, elements: list[etree._Element]) -> None:
        last = -1
        seen: set[str] = set()
        for element in elements:
            name = self.name(element)
            if name not in METADATA:
                self.unknown(element, "the metadata")
                continue
            if name in seen:
                self.note("repeated_element", element, f"{name} stands twice, the first counts", "")
                continue
            seen.add(name)
            place = METADATA.index(name)
            if place < last:
                self.note(
                    "element_order", element, f"{name} is out of order", "the order is " + ", ".join(METADATA)
                )
            last = max(last, place)
            if name == "links":
                self.links(ioc, element)
            else:
                setattr(ioc, name, self.text(element))

    def text(self, element: etree._Element) -> str:
        for child in element:
            self.unknown(child, self.name(element))
        return element.text or ""

    def links(self, ioc: Ioc, element: etree._Element) -> None:
        for child in element:
            if self.name(child) != "link":
                self.unknown(child, "links")
                continue
            if len(ioc.links) >= MAX_LINKS:
                raise IocRefused("too_many_links", f"more than {MAX_LINKS} links", "", line_of(child))
            self.attributes(child, ("rel", "href", "title", "type"))
            rel = child.get("rel")
            if rel is None and self.version == "1.1":
                self.note("missing_rel", child, "a link has no rel", "")
            ioc.links.append(
                Link(rel, child.get("href"), child.get("title"), child.get("type"), self.text(child))
            )

    def parameters(self, ioc: Ioc, element: etree._Element) -> None:
        for child in element:
            if self.name(child) != "param":
                self.unknown(child, "parameters")
                continue
            if len(ioc.parameters) >= MAX_PARAMETERS:
                raise IocRefused(
                    "too_many_parameters",
                    f"more than {MAX_PARAMETERS} parameters",
                    "",
                    line_of(child),
                )
            self.attributes(child, ("id", "ref-id", "name"))
            parameter = Parameter(
                child.get("id") or "",
                child.get("ref-id") or "",
                child.get("name") or "",
                line=line_of(child),
            )
            for value in child:
                if self.name(value) == "value" and parameter.value is None:
                    parameter.value, parameter.value_type = self.text(value), value.get("type")
                else:
                    self.unknown(value, "param")
            ioc.parameters.append(parameter)

    # --------------------------------------------------------------------------------------------- logic

    def indicator(self, element: etree._Element) -> Indicator:
        """Depth is bounded by the parser's own check, so recursion is safe."""
        line = line_of(element)
        self.attributes(element, ("operator", "id", "node-context"))
        operator = element.get("operator")
        if operator is None:
            raise IocRefused("missing_operator", "an Indicator has no operator", "AND or OR", line)
        if operator not in ("AND", "OR"):
            if operator.strip().upper() not in ("AND", "OR"):
                raise IocRefused(
                    "unknown_operator", f"operator {printable(operator, 40)} is neither AND nor OR", "", line
                )
            self.note(
                "operator_spelling", element, f"operator {printable(operator, 40)} is read as upper case", ""
            )
            operator = operator.strip().upper()
        if element.text and element.text.strip():
            self.note("stray_text", element, "text in an Indicator is left out", "")
        children: list[Node] = []
        nested = False
        for child in element:
            name = self.name(child)
            if name == "Indicator":
                nested = True
                children.append(self.indicator(child))
            elif name == "IndicatorItem":
                if nested:
                    self.note(
                        "item_order",
                        child,
                        "an IndicatorItem stands after a nested Indicator",
                        "items come first",
                    )
                    nested = False
                children.append(self.item(child))
            else:
                raise IocRefused(
                    "unknown_logic",
                    f"{printable(name, 80)} in an Indicator has no meaning here",
                    "",
                    line_of(child),
                )
        identifier = element.get("id")
        if identifier is None and self.version == "1.1":
            self.note("missing_id", element, "an Indicator has no id", "")
        return Indicator(identifier or "", operator, children, element.get("node-context"), line)

    def item(self, element: etree._Element) -> Item:
        line = line_of(element)
        self.attributes(element, ("id", "condition", "preserve-case", "negate"))
        parts: dict[str, etree._Element] = {}
        for child in element:
            name = self.name(child)
            if name not in ("Context", "Content", "Comment"):
                self.unknown(child, "an IndicatorItem")
            elif name in parts:
                raise IocRefused(
                    "duplicate_element",
                    f"{name} stands twice in an IndicatorItem",
                    "",
                    line_of(child),
                )
            else:
                parts[name] = child
        if "Context" not in parts:
            raise IocRefused(
                "missing_context", "an IndicatorItem has no Context", "it does not say where to look", line
            )
        context, content = parts["Context"], parts.get("Content")
        self.attributes(context, ("document", "search", "type"))
        text = content_type = ""
        if content is None:
            self.note("missing_content", element, "an IndicatorItem has no Content", "it never matches")
        else:
            self.attributes(content, ("type",))
            if len(content):
                raise IocRefused(
                    "child_in_content", "Content holds an element instead of text", "escape < as &lt;", line
                )
            text, content_type = content.text or "", content.get("type") or ""
        if self.version == "1.1" and not element.get("id"):
            self.note("missing_id", element, "an IndicatorItem has no id", "")
        condition, negate = self.condition(element)
        if "Comment" in parts and self.version == "1.1":
            self.note("comment_in_1_1", element, "1.1 keeps comments as parameters", "")
        return Item(
            id=element.get("id") or "",
            condition=condition,
            document=context.get("document") or "",
            search=context.get("search") or "",
            content=text,
            content_type=content_type,
            context_type=context.get("type") or "",
            comment=self.text(parts["Comment"]) if "Comment" in parts else None,
            negate=negate,
            preserve_case=self.flag(element, "preserve-case"),
            line=line,
        )

    def condition(self, element: etree._Element) -> tuple[str, bool]:
        raw = (element.get("condition") or "").strip()
        negate = self.flag(element, "negate")
        word = raw.lower()
        if word in NEGATED:
            if self.version == "1.1":
                self.note(
                    "condition_of_1_0", element, f"condition {raw} belongs to 1.0", 'write negate="true"'
                )
            return NEGATED[word], not negate
        if word in CONDITIONS:
            if self.version == "1.0" and word not in ("is", "contains"):
                self.note(
                    "condition_of_1_1",
                    element,
                    f"condition {raw} belongs to 1.1",
                    "other tools may not know it",
                )
            return word, negate
        return raw, negate

    def flag(self, element: etree._Element, name: str) -> bool:
        raw = element.get(name)
        if raw is None:
            if self.version == "1.1":
                self.note("missing_attribute", element, f"an IndicatorItem has no {name}", "read as false")
            return False
        if self.version == "1.0":
            self.note("attribute_of_1_1", element, f"{name} belongs to 1.1", "it is honoured")
        value = raw.strip().lower()
        if value not in ("true", "false", "1", "0"):
            raise IocRefused(
                "bad_flag",
                f"{name} is {printable(raw, 40)}, not true or false",
                "",
                line_of(element),
            )
        return value in ("true", "1")
