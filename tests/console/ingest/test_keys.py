"""Who is let in."""

from hashlib import sha256
from pathlib import Path

import pytest

from tokentide.console.ingest import IngestSettings
from tokentide.console.ingest.keys import ANYBODY, Client, KeyRing
from tokentide.schemas import SettingsError

SECRET = "a-secret-of-some-length"
OTHER = "another-secret-of-some-length"


def ring(tmp_path: Path, text: str, key: str | None = None) -> KeyRing:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    return KeyRing.read(IngestSettings(keys_file=path, key=key))


def test_a_door_without_keys_lets_everybody_in_but_only_on_loopback() -> None:
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert KeyRing.read(IngestSettings(host=host)).client_of(None) == ANYBODY

    for host in ("0.0.0.0", "::", "10.0.0.1", "127.example.com", "localhost.example.com"):
        with pytest.raises(SettingsError, match="Without keys everybody who reaches"):
            KeyRing.read(IngestSettings(host=host))


def test_one_key_is_enough_for_the_network() -> None:
    keys = KeyRing.read(IngestSettings(host="0.0.0.0", key=SECRET))

    assert keys.client_of(SECRET) == Client("default")
    assert [keys.client_of(wrong) for wrong in (None, "", SECRET[:-1], f"{SECRET} ")] == [None] * 4


def test_keys_of_a_file_are_bound_to_what_it_says(tmp_path: Path) -> None:
    keys = ring(
        tmp_path,
        f"""
        [[key]]
        name = "mobile"
        secret = "{SECRET}"
        service = "app"
        team_id = "growth"

        [[key]]
        name = "billing"
        sha256 = "{sha256(OTHER.encode()).hexdigest()}"
        """,
    )

    assert keys.client_of(SECRET) == Client("mobile", "app", "growth")
    assert keys.client_of(OTHER) == Client("billing")
    assert keys.client_of("nobody's") is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "key Field required"),
        ("key = []", "key "),
        ('[[key]]\nname = "a"', "needs a secret, or the sha256 of one, but not both"),
        (f'[[key]]\nname = "a"\nsecret = "{SECRET}"\nsha256 = "{"0" * 64}"', "but not both"),
        ('[[key]]\nname = "a"\nsecret = "short"', "secret must be at least 16 characters"),
        ('[[key]]\nname = "a"\nsecret = "with spaces and long"', "of ASCII without a space"),
        ('[[key]]\nname = "a"\nsecret = "schlüssel-der-lang-ist"', "of ASCII without a space"),
        (f'[[key]]\nname = "a"\nsecret = "{SECRET}"\nteam = "t"', "key.0.team "),
        (f'[[key]]\nsecret = "{SECRET}"', "key.0.name Field required"),
        ("[[key]", "cannot be read: "),
    ],
)
def test_a_file_that_is_wrong_is_one_sentence_without_secrets(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        ring(tmp_path, text)

    assert sentence in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_file_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot be read: .*No such file"):
        KeyRing.read(IngestSettings(keys_file=tmp_path / "missing.toml"))


def test_a_secret_of_two_clients_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Two keys have the same secret"):
        ring(tmp_path, f'[[key]]\nname = "a"\nsecret = "{SECRET}"', key=SECRET)


def test_a_key_that_can_be_guessed_is_wrong_use() -> None:
    with pytest.raises(SettingsError, match="at least 16 characters"):
        KeyRing.read(IngestSettings(key="letmein"))
