{# A minion has started: it does what stands for it. Its id is from its key; nothing else of it is used. #}
ioc_scan_sync:
  local.ioc_scan.sync:
    - tgt: {{ data['id'] | json }}
    - tgt_type: list
