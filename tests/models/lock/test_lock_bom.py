"""The bill of materials keeps to CycloneDX 1.6 as the project's own validator reads it, and says what is pinned."""

from __future__ import annotations

import datetime
import json
import warnings
from typing import Any

import pytest
from locked import DIGEST, artefact

from rung.models.lock.bom import bill_of_materials, spdx_id
from rung.models.lock.record import Lock, LockedFile, Signature, Verified


def file(path: str, role: str = "weights") -> LockedFile:
    """One more file of a model."""
    return LockedFile(role=role, path=path, size=7, sha256=DIGEST, verified=Verified.PUBLISHER)


EVERYTHING = Lock(
    artefacts=(
        artefact("tiny", base_models=("someone/tiny", "someone/base")),
        artefact("gemma", licence="gemma", architecture="gemma3", file_type="Q8_0"),
        artefact("none", licence=None, context_length=None, template=None, architecture="new"),
        artefact("split", files=(file("models/a-1.gguf"), file("models/a-2.gguf"), file("models/p.gguf", "projector"))),
        artefact("ollama", source="ollama:library/qwen3:latest", revision=f"sha256:{DIGEST}"),
        artefact("url", source="https://example.com/m/b-1.gguf?x=1&y=2", revision='"etag"'),
        artefact("file", source="file:models/ä.gguf", revision=""),
        artefact("signed", signature=Signature(bundle=DIGEST, signer="a@b", checked="2026-11-02T10:00:00Z")),
    )
)  # fmt: skip


def document(lock: Lock) -> dict[str, Any]:  # Any: JSON, looked at
    """The bill of a lock, parsed."""
    found: dict[str, Any] = json.loads(bill_of_materials(lock))
    return found


@pytest.mark.parametrize("lock", [EVERYTHING, Lock()], ids=["everything", "nothing"])
def test_it_is_valid_cyclonedx_1_6(lock: Lock) -> None:
    """By the strict validator of the format's own library."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the validator's imports
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator

        validator = JsonStrictValidator(SchemaVersion.V1_6)
        assert validator.validate_str(bill_of_materials(lock).decode()) is None
        spoilt = bill_of_materials(lock).decode().replace('"CycloneDX"', '"Cyclone"')
        assert validator.validate_str(spoilt) is not None


def test_a_model_says_what_it_is_and_where_it_comes_from() -> None:
    """Digest, licence, address, what it was made from, quantisation."""
    found = document(EVERYTHING)["components"][0]
    revision = EVERYTHING.artefacts[0].revision
    assert found["type"] == "machine-learning-model"
    assert found["hashes"] == [{"alg": "SHA-256", "content": DIGEST}]
    assert found["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert found["purl"] == f"pkg:huggingface/someone/tiny-GGUF@{revision}"
    ancestors = found["pedigree"]["ancestors"]
    assert [each["name"] for each in ancestors] == ["someone/tiny", "someone/base"]
    assert found["externalReferences"] == [
        {
            "type": "distribution",
            "url": f"https://huggingface.co/someone/tiny-GGUF/tree/{revision}",
        },
        {"type": "model-card", "url": "https://huggingface.co/someone/tiny-GGUF"},
    ]
    assert found["modelCard"]["modelParameters"] == {
        "architectureFamily": "transformer",
        "modelArchitecture": "llama",
    }
    facts = {each["name"]: each["value"] for each in found["properties"]}
    assert facts["rung:quantisation"] == "Q4_K_M"
    assert facts["rung:bitsPerWeight"] == "4.8500"


def test_what_is_not_known_is_not_said() -> None:
    """No guess at a licence, an architecture's family or an address."""
    found = {each["name"]: each for each in document(EVERYTHING)["components"]}
    assert found["gemma"]["licenses"] == [{"license": {"name": "gemma"}}]
    assert "licenses" not in found["none"]
    assert found["none"]["modelCard"]["modelParameters"] == {"modelArchitecture": "new"}
    assert "purl" not in found["file"]
    assert "externalReferences" not in found["file"]
    assert "hashes" not in found["split"]
    assert [each["name"] for each in found["split"]["components"]] == [
        "models/a-1.gguf",
        "models/a-2.gguf",
        "models/p.gguf",
    ]


def test_the_same_lock_gives_the_same_bytes() -> None:
    """Its time is that of the newest pin, or the one that is asked for; another lock has another serial number."""
    assert bill_of_materials(EVERYTHING) == bill_of_materials(EVERYTHING)
    assert document(EVERYTHING)["metadata"]["timestamp"] == "2026-11-02T10:00:00Z"
    at = datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC)
    asked = json.loads(bill_of_materials(EVERYTHING, at=at))
    assert asked["metadata"]["timestamp"] == "2020-01-02T00:00:00Z"
    other = Lock(artefacts=EVERYTHING.artefacts[1:])
    assert document(other)["serialNumber"] != document(EVERYTHING)["serialNumber"]


def test_licences_are_known_by_how_publishers_write_them() -> None:
    """And not guessed at."""
    written = ["apache-2.0", "MIT", "gpl-3.0", "llama3.2", "other"]
    assert [spdx_id(each) for each in written] == [
        "Apache-2.0",
        "MIT",
        "GPL-3.0-only",
        None,
        None,
    ]
