"""`tokentide audit`: Kafka = Faust state = ClickHouse raw = ClickHouse aggregates, or what differs.

Folds the log with slow, obvious code that shares no line with the meter.
"""

from tokentide.console.audit.conductor import Progress, run_audit
from tokentide.console.audit.correction import Correction
from tokentide.console.audit.fix import check_fixable, publish_corrections
from tokentide.console.audit.report import AuditReport, Difference, Source, to_json
from tokentide.console.audit.rules import AuditRules
from tokentide.console.audit.summary import corrections_table, differences_table, sentences, totals_table

__all__ = [
    "AuditReport",
    "AuditRules",
    "Correction",
    "Difference",
    "Progress",
    "Source",
    "check_fixable",
    "corrections_table",
    "differences_table",
    "publish_corrections",
    "run_audit",
    "sentences",
    "to_json",
    "totals_table",
]
