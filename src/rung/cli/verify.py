"""`rung verify`: whether the files of pinned models are what they were, offline."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from rung.cli.lockfile import chosen, lock_of, project_root
from rung.cli.modeltext import byte_progress
from rung.cli.options import config_option, json_option
from rung.cli.verifytext import describe, facts
from rung.errors import ConfigError
from rung.models.lock.drift import check
from rung.models.lock.file import LOCK_NAME, update_lock
from rung.models.lock.record import Artefact, Lock, Signature

_file = click.Path(path_type=Path)


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--quick",
    is_flag=True,
    help="Trust a file whose size and times are as they were when it was last read in full.",
)
@click.option("--signature", type=_file, help="The publisher's signature file of NAME (model.sig).")
@click.option("--public-key", type=_file, help="Whose signature it is: a public key, PEM.")
@click.option("--identity", help="Whose signature it is: the identity that its certificate names.")
@click.option("--identity-provider", help="Address of who vouches for that identity.")
@config_option
@json_option
def command(
    names: tuple[str, ...],
    quick: bool,
    signature: Path | None,
    public_key: Path | None,
    identity: str | None,
    identity_provider: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Read the files of pinned models in full and compare them with rung.lock; nothing is asked of the network.

    Says of a file that differs which part of it does: weights, chat template, tokenizer or metadata. Exits with 1
    when something differs. With --signature, checks also that a publisher signed the weights, and notes it in the
    lock; an identity needs the network, a key does not.
    """
    signer = identity, identity_provider
    if signature is None and (public_key or any(signer)):
        raise click.UsageError("--public-key and --identity say whose --signature is expected")
    if signature is not None and bool(public_key) == all(signer):
        raise click.UsageError(
            "--signature needs --public-key, or --identity with --identity-provider"
        )
    root = project_root(config)
    lock = lock_of(root)
    artefacts = chosen(lock, names)
    if signature is not None and len(artefacts) != 1:
        raise click.UsageError("--signature is checked for one model; name it")
    wanted = {artefact.name for artefact in artefacts}
    with byte_progress("verify", quiet=as_json) as progress:
        drifts = check(lock, root, names=wanted, quick=quick, progress=progress)
    if signature is not None and not drifts:
        found = _signature(artefacts[0], signature, public_key, identity, identity_provider)
        artefacts = (note_signature(root / LOCK_NAME, artefacts[0], found),)
    if as_json:
        click.echo(msgspec.json.encode(facts(artefacts, drifts, quick=quick)))
    else:
        click.echo(describe(artefacts, drifts, quick=quick))
    if drifts:
        raise SystemExit(1)


def _signature(
    artefact: Artefact,
    bundle: Path,
    public_key: Path | None,
    identity: str | None,
    provider: str | None,
) -> Signature:
    from rung.models.lock.signing import Signer, check_signature

    signer = Signer(public_key=public_key, identity=identity, provider=provider)
    return check_signature(artefact, bundle, signer)


def note_signature(path: Path, artefact: Artefact, signature: Signature) -> Artefact:
    """Note a good signature in the lock, beside the model that it is about.

    Raises:
        ConfigError: another process pinned something else under the name meanwhile.
    """
    signed = msgspec.structs.replace(artefact, signature=signature)

    def change(lock: Lock) -> Lock:
        if lock.find(artefact.name) != artefact:
            raise ConfigError(
                f"the signature is good, and {artefact.name!r} was pinned anew while it was checked",
                hint="run it again, for what is pinned now",
            )
        return lock.put(signed)

    update_lock(path, change)
    return signed
