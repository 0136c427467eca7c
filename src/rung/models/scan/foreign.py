"""What else a file is that looks like one of the accepted ones: a pickle from its first byte, a tar, an HDF5, a zip.

Readers of those look at fixed places, and what is accepted has room there: in texts of a header, in weights. So every
accepted file is also looked at as each of them.
"""

from __future__ import annotations

from rung.models.scan.archives import tar_findings, zip_findings, zip_listing
from rung.models.scan.content import Content
from rung.models.scan.magic import HDF5, hdf5_at, is_tar
from rung.models.scan.pickles import begun
from rung.models.scan.pickles import findings as pickle_findings
from rung.models.scan.report import Finding

_RULE = "polyglot"


def foreign(content: Content) -> tuple[Finding, ...]:
    """What a file is besides what it seems to be, nothing when it is one thing only."""
    found: list[Finding] = []
    if walks := begun(content.at):
        what = "a Python pickle that is a file of another kind as well"
        found += [Finding(_RULE, what, "byte 0"), *pickle_findings(walks)]
    if is_tar(content.head):
        what = "a tar archive that is a file of another kind as well"
        found += [Finding(_RULE, what, "byte 0"), *tar_findings(content)]
    if (at := hdf5_at(content)) is not None:
        what = f"an HDF5 file inside a file of another kind, which {HDF5.why}"
        found.append(Finding(_RULE, what, f"byte {at:,}"))
    if listing := zip_listing(content):
        what = "a zip archive at the end of a file of another kind"
        found += [Finding(_RULE, what, f"byte {listing.at:,}"), *zip_findings(content, listing)]
    return tuple(found)
