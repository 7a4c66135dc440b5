"""``relaunch token``: a learner token as the LMS's server would sign it, for trying out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.connect import settings_for
from orchestrator.cli.options import ConfigOption
from orchestrator.cli.service_access import missing_extra
from orchestrator.cli.settings import Loaded
from orchestrator.errors import ConfigurationError


def token(
    user: Annotated[str, typer.Option(help="The learner's user id.")],
    lab: Annotated[
        list[str], typer.Option(metavar="N", help="A lab profile that it may launch; * for any.")
    ],
    minutes: Annotated[float, typer.Option(min=0.1, help="How long it is good for.")] = 10.0,
    first_name: Annotated[str | None, typer.Option(help="Goes with the launch.")] = None,
    last_name: Annotated[str | None, typer.Option(help="Goes with the launch.")] = None,
    email: Annotated[str | None, typer.Option(help="Goes with the launch.")] = None,
    class_id: Annotated[str | None, typer.Option(help="Goes with the launch.")] = None,
    lang: Annotated[str | None, typer.Option(help="Goes with the launch.")] = None,
    private_key: Annotated[
        Path | None,
        typer.Option(help="Sign with this RSA or P-256 key (PEM).", exists=True, dir_okay=False),
    ] = None,
    key_id: Annotated[
        str | None, typer.Option(help="Its `kid` in the key set, with --private-key.")
    ] = None,
    config: ConfigOption = None,
) -> int:
    """Print a learner token. Whoever has it can act for that learner until it runs out."""
    try:
        from orchestrator.service.access.learner_tokens import minted
    except ImportError as error:
        raise missing_extra(error) from None
    loaded = settings_for(config)
    chosen = loaded.settings.tokens
    if minutes * 60 > chosen.longest_seconds:
        raise typer.BadParameter(
            f"--minutes: the service takes tokens of {chosen.longest_seconds / 60:g} minutes at "
            "most (tokens.longest_seconds)."
        )
    if key_id is not None and private_key is None:
        raise typer.BadParameter("--key-id: goes with --private-key only.")
    labs = _labs(lab)
    key, algorithm = _secret(loaded) if private_key is None else _private_key(private_key)
    given = {
        "first_name": first_name,
        "last_name": last_name,
        "email": email,
        "class_id": class_id,
        "lang": lang,
    }
    made = minted(
        key,
        algorithm=algorithm,
        key_id=key_id,
        user_id=user,
        labs=labs,
        seconds=minutes * 60,
        audience=chosen.audience,
        issuer=chosen.issuer,
        launch={name: value for name, value in given.items() if value is not None},
    )
    print(made)
    return 0


def _labs(texts: list[str]) -> list[int] | str:
    if texts == ["*"]:
        return "*"
    try:
        return [int(text) for text in texts]
    except ValueError:
        raise typer.BadParameter("--lab: takes the numbers of lab profiles, or * alone.") from None


def _secret(loaded: Loaded) -> tuple[str, str]:
    secret = loaded.settings.tokens.secret
    if secret is None:
        raise ConfigurationError(
            "tokens.secret: no secret is set, so no token can be signed; none was made. Put it in "
            "the environment variable RELAUNCH_TOKENS__SECRET, or name a --private-key."
        )
    return secret.get_secret_value(), "HS256"


def _private_key(file: Path) -> tuple[str, str]:
    """The key and the one algorithm that it is for."""
    try:
        from cryptography.hazmat.primitives.asymmetric import ec, rsa
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise missing_extra(error) from None
    refused = ConfigurationError(
        f"{file}: is no RSA key of 2048 bits or more and no P-256 key (PEM, without a password); "
        "no token was made."
    )
    try:
        pem = file.read_text(encoding="ascii")
        key: Any = load_pem_private_key(pem.encode(), password=None)
    except (OSError, ValueError, TypeError):
        raise refused from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return pem, "RS256"
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return pem, "ES256"
    raise refused
