"""The findings of `rung scan` as SARIF 2.1.0, the form that code-scanning services read.

The layout follows the OASIS standard (https://docs.oasis-open.org/sarif/sarif/v2.1.0/).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from rung.models.scan.report import Finding, Report
from rung.version import __version__

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_BYTE = re.compile(r"byte ([0-9,]+)")
_GROUPS: Mapping[str, str] = {
    "pickle": "Python pickles run code when they are loaded",
    "archive": "Archives may hold anything and are never unpacked",
    "executable": "Programs and bytecode are no models",
    "python": "Program text is no model",
    "markup": "Program text is no model",
    "text": "Program text is no model",
    "yaml": "Some YAML makes objects when it is loaded",
    "json": "JSON that is damaged, or that makes objects when it is loaded",
    "gguf": "A GGUF file that contradicts itself can end or take over a loader",
    "safetensors": "A safetensors file that contradicts itself hides something",
    "template": "A chat template is a program that comes with a model",
    "keras": "Keras files can hold layers made of code",
    "numpy": "NumPy files can hold pickled objects",
    "onnx": "ONNX files can name other files for their data",
    "tensorflow": "TensorFlow graphs can read and write files",
    "link": "A link leads to files that others can change",
    "hard": "A second name of a file lets others change it",
    "polyglot": "A file that is two things at once deceives one of its readers",
}


def sarif(reports: Sequence[Report]) -> dict[str, object]:
    """A log of one run.

    Args:
        reports: of all files, the clean ones too: they are listed without results.
    """
    rules = sorted({finding.rule for report in reports for finding in report.findings})
    driver = {"name": "rung scan", "version": __version__, "rules": [_rule(rule) for rule in rules]}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "artifacts": [
                    {"location": {"uri": _uri(report.name)}, "length": report.size}
                    for report in reports
                ],
                "results": [
                    _result(finding, report, index, rules)
                    for index, report in enumerate(reports)
                    for finding in report.findings
                ],
            }
        ],
    }


def _rule(rule: str) -> dict[str, object]:
    text = _GROUPS.get(rule.partition("-")[0], "Only formats that cannot run code are loaded")
    return {"id": rule, "shortDescription": {"text": text}}


def _result(finding: Finding, report: Report, index: int, rules: list[str]) -> dict[str, object]:
    place: dict[str, object] = {"artifactLocation": {"uri": _uri(report.name), "index": index}}
    if match := _BYTE.match(finding.where):
        place["region"] = {"byteOffset": int(match[1].replace(",", ""))}
    return {
        "ruleId": finding.rule,
        "ruleIndex": rules.index(finding.rule),
        "level": "error",
        "message": {"text": f"{finding.what} ({finding.where})"},
        "locations": [{"physicalLocation": place}],
    }


def _uri(name: str) -> str:
    return Path(name).as_uri() if Path(name).is_absolute() else quote(name)
