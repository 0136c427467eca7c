"""A container's memory limit counts, however deep the group lies that sets it."""

from __future__ import annotations

from pathlib import Path

from rung.models.hardware.memory import Memory, control_groups


def group(folder: Path, **files: str) -> None:
    """One control group as the kernel shows it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content + "\n")


def test_limits_of_all_groups_around_the_process_count(tmp_path: Path) -> None:
    """File caches can be had back; a group without a limit says nothing."""
    membership = tmp_path / "cgroup"
    membership.write_text("0::/a/b\n")
    root = tmp_path / "fs"
    stat = "anon 100\ninactive_file 50\n"
    group(root / "a", memory__max="1000", memory__current="400", memory__stat=stat)
    group(root / "a" / "b", memory__max="max", memory__current="400", memory__stat=stat)
    assert list(control_groups(membership, root)) == [Memory(1000, 650)]


def test_the_older_hierarchy_is_read_too(tmp_path: Path) -> None:
    """Version 1 has a folder for each controller; other controllers are passed over."""
    membership = tmp_path / "cgroup"
    membership.write_text("4:cpu,cpuacct:/x\n3:memory:/x\n1:name=systemd:/x\n")
    group(
        tmp_path / "memory" / "x",
        memory__limit_in_bytes="2000",
        memory__usage_in_bytes="2500",
        memory__stat="total_inactive_file 0",
    )
    assert list(control_groups(membership, tmp_path)) == [Memory(2000, 0)]


def test_a_machine_without_groups_has_none(tmp_path: Path) -> None:
    """No file, no limit."""
    assert list(control_groups(tmp_path / "none", tmp_path)) == []
