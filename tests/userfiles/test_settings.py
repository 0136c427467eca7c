"""`rung.toml`: what is read, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from rung.config import (
    Accept,
    EmbeddedSettings,
    EngineName,
    KvType,
    LoadSettings,
    Pooling,
    Price,
    ReplayMode,
    to_nano,
)
from rung.errors import ConfigError
from rung.policy import Place, Policy
from rung.prompts import Form
from rung.task import Privacy
from rung.userfiles.settings import find_settings, load_settings

SMALLEST = """format = 1
[rungs.student]
engine = "student"
model = "models/{task}"
[ladders]
default = ["student"]
"""

FULL = """format = 1
tasks_dir = "work/tasks"
certificates_dir = "proof"
[ledger]
url = "sqlite:///other.db"
store_text = true
retention_days = 7
[policy.egress]
public = ["device", "region"]
[rungs.student]
engine = "student"
model = "models/{task}"
[rungs.cloud]
engine = "openai"
model = "big"
where = "region"
accept = "contract"
base_url = "https://api.example.com/v1"
api_key_env = "EXAMPLE_KEY"
temperature = 0.5
seed = 3
price = { input_per_million = "2.50", output_per_million = 10, currency = "EUR", date = 2026-11-01 }
timeouts = { connect = 1, total = 30.5 }
limits = { concurrency = 2, retries = 0, context_tokens = 8192 }
[rungs.tape]
engine = "replay"
recording = "tapes/cloud.jsonl"
replays = "cloud"
mode = "fill"
[ladders]
default = ["student", "cloud"]
taped = ["tape"]
[frontier]
name = "a big one"
input_per_million = 0.15
output_per_million = "0.000000001"
currency = "EUR"
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def complaint(text: str) -> list[str]:
    """The lines of the error for a `rung.toml` with this text in the current folder."""
    Path("rung.toml").write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_settings(Path("rung.toml"))
    return caught.value.message.splitlines()


def test_smallest_file_gets_the_defaults(project: Path) -> None:
    """What a file leaves out is what the settings' own defaults say."""
    (project / "rung.toml").write_text(SMALLEST)
    settings = load_settings()
    assert settings.root == project
    assert settings.policy == Policy()
    assert settings.frontier is None
    assert settings.ladder("default") == (settings.rungs["student"],)
    assert settings.rungs["student"].where is Place.DEVICE
    assert settings.rungs["student"].accept is Accept.CERTIFIED


def test_every_key_arrives(project: Path) -> None:
    """Every key of a full file reaches the settings it stands for."""
    (project / "rung.toml").write_text(FULL)
    settings = load_settings(project)
    cloud, tape = settings.rungs["cloud"], settings.rungs["tape"]
    assert (settings.tasks_dir, settings.certificates_dir) == ("work/tasks", "proof")
    assert (settings.ledger.url, settings.ledger.store_text) == ("sqlite:///other.db", True)
    assert settings.ledger.retention_days == 7
    assert settings.policy.egress == {Privacy.PUBLIC: {Place.DEVICE, Place.REGION}}
    assert cloud.price == Price(
        input_per_million=2_500_000_000,
        output_per_million=10_000_000_000,
        currency="EUR",
        date="2026-11-01",
    )
    assert (cloud.accept, cloud.where) == (Accept.CONTRACT, Place.REGION)
    assert (cloud.base_url, cloud.api_key_env) == ("https://api.example.com/v1", "EXAMPLE_KEY")
    assert (cloud.temperature, cloud.seed) == (0.5, 3)
    assert (cloud.timeouts.connect, cloud.timeouts.total) == (1.0, 30.5)
    assert (cloud.limits.concurrency, cloud.limits.retries) == (2, 0)
    assert cloud.limits.context_tokens == 8192
    assert (tape.engine, tape.mode) == (EngineName.REPLAY, ReplayMode.FILL)
    assert (tape.where, tape.price, tape.model) == (cloud.where, cloud.price, "big")
    assert settings.frontier == Price(
        input_per_million=150_000_000, output_per_million=1, currency="EUR"
    )


def test_an_embedded_model_gets_what_is_written_and_good_defaults(project: Path) -> None:
    """Memory and idle time are shared; how a model is loaded is its rung's."""
    written = """[rungs.starter]
engine = "llama_cpp"
model = "starter"
[rungs.small]
engine = "llama_cpp"
model = "/models/small.gguf"
adapter = "legal"
[rungs.small.load]
context = 8192
slots = 4
threads = 3
kv_type = "q8_0"
pooling = "mean"
adapters = { legal = "l.gguf" }
start_s = 300
[embedded]
memory_mib = 6000
idle_s = 60
"""
    (project / "rung.toml").write_text(SMALLEST + written)
    settings = load_settings()
    starter, small = settings.rungs["starter"], settings.rungs["small"]
    assert settings.embedded == EmbeddedSettings(memory_mib=6000, idle_s=60)
    assert (starter.where, starter.load, starter.prompt) == (
        Place.DEVICE,
        LoadSettings(),
        Form.SHORT,
    )
    assert (small.adapter, small.prompt) == ("legal", Form.BARE)
    assert (starter.limits.concurrency, small.limits.concurrency) == (2, 4)  # one a slot
    assert small.load == LoadSettings(
        context=8192,
        slots=4,
        threads=3,
        kv_type=KvType.Q8_0,
        start_s=300,
        pooling=Pooling.MEAN,
        adapters={"legal": "l.gguf"},
    )


def test_nearest_file_upwards_is_found(project: Path) -> None:
    """The settings of a folder hold for the folders below it."""
    (project / "rung.toml").write_text(SMALLEST)
    below = project / "a" / "b"
    below.mkdir(parents=True)
    assert find_settings(below) == project / "rung.toml"


def test_no_file_is_said_with_a_way_out(tmp_path: Path) -> None:
    """Where there is no project the error says how to begin one."""
    with pytest.raises(ConfigError) as caught:
        find_settings(tmp_path)
    assert caught.value.message == f"no rung.toml in {str(tmp_path)!r} or any folder above it"
    assert (
        caught.value.hint == "rung init writes a starting project; --config names a file elsewhere"
    )


CLOUD = """[rungs.cloud]
engine = "openai"
model = "m"
where = "{where}"
base_url = "{url}"
"""

EMBEDDED = """[rungs.small]
engine = "llama_cpp"
model = "models/small.gguf"
"""

MISTAKES = {
    "unknown key": (
        "ledgr = 1\n" + SMALLEST,
        "rung.toml:1: unknown key 'ledgr'; did you mean 'ledger'?",
    ),
    "unknown key without a neighbour": (
        SMALLEST.replace("[ladders]", "xyz = 1\n[ladders]").replace('engine = "student"\n', ""),
        "rung.toml:2: rungs.student.engine is missing: 'student', 'llama_cpp', 'openai' or "
        "'replay'",
    ),
    "swapped letters": (
        SMALLEST.replace("model =", "modle ="),
        "rung.toml:4: unknown key 'rungs.student.modle'; did you mean 'model'?",
    ),
    "a key that is needed, mistyped": (
        SMALLEST.replace("engine =", "engin ="),
        "rung.toml:3: unknown key 'rungs.student.engin'; did you mean 'engine'?",
    ),
    "no format": (SMALLEST.replace("format = 1\n", ""), "rung.toml: format is missing: 1"),
    "other format": (
        SMALLEST.replace("format = 1", "format = 2"),
        "rung.toml:1: format must be 1, not 2",
    ),
    "true is not one": (
        SMALLEST.replace("format = 1", "format = true"),
        "rung.toml:1: format must be 1, not True",
    ),
    "no rungs": (
        'format = 1\n[ladders]\ndefault = ["a"]\n',
        "rung.toml: rungs is missing: at least one table [rungs.NAME]",
    ),
    "empty ladder": (
        SMALLEST.replace('["student"]', "[]"),
        "rung.toml:6: ladders.default must be a list of at least one rung, bottom first, not []",
    ),
    "no ladder": (
        SMALLEST.replace('default = ["student"]\n', ""),
        "rung.toml:5: ladders must be a table [ladders] with at least one list of rungs, bottom "
        "first, not {}",
    ),
    "unknown rung": (
        SMALLEST.replace('["student"]', '[\n  "studnet",\n]'),
        "rung.toml:7: ladders.default names 'studnet', which is no rung; did you mean 'student'?",
    ),
    "unknown rung without a neighbour": (
        SMALLEST.replace('["student"]', '["xyz"]'),
        "rung.toml:6: ladders.default names 'xyz', which is no rung; declared: 'student'",
    ),
    "rung twice": (
        SMALLEST.replace('["student"]', '["student", "student"]'),
        "rung.toml:6: ladders.default names 'student' twice",
    ),
    "bad rung name": (
        SMALLEST.replace("[rungs.student]", '[rungs."a b"]').replace('["student"]', '["a"]'),
        "rung.toml:2: rungs: a name must be 1 to 64 letters, digits, '-' and '_', beginning with "
        "a letter or digit, not 'a b'",
    ),
    "unknown engine": (
        SMALLEST.replace('"student"\nmodel', '"studen"\nmodel'),
        "rung.toml:3: rungs.student.engine must be 'student', 'llama_cpp', 'openai' or 'replay', "
        "not 'studen'; did you mean 'student'?",
    ),
    "unknown place": (
        SMALLEST + CLOUD.format(where="sight", url="http://127.0.0.1/v1"),
        "rung.toml:10: rungs.cloud.where must be 'device', 'site', 'region' or 'anywhere', "
        "not 'sight'; did you mean 'site'?",
    ),
    "unknown privacy label": (
        SMALLEST + '[policy.egress]\npersnal = ["device"]\n',
        "rung.toml:8: policy.egress: a name must be 'public', 'internal', 'personal' or 'secret', "
        "not 'persnal'; did you mean 'personal'?",
    ),
    "student elsewhere": (
        SMALLEST.replace('engine = "student"', 'engine = "student"\nwhere = "site"'),
        "rung.toml:4: rungs.student.where must be 'device', not 'site': a student runs in this "
        "process",
    ),
    "student without a model": (
        SMALLEST.replace('model = "models/{task}"\n', ""),
        "rung.toml:2: rungs.student.model is missing: engine 'student' needs it",
    ),
    "student with another placeholder": (
        SMALLEST.replace("{task}", "{tsk}"),
        "rung.toml:4: rungs.student.model must be a folder in which only {task} stands for "
        "something, not 'models/{tsk}'",
    ),
    "openai without an address": (
        SMALLEST + '[rungs.cloud]\nengine = "openai"\nmodel = "m"\nwhere = "site"\n',
        "rung.toml:7: rungs.cloud.base_url is missing: engine 'openai' needs it",
    ),
    "key of another engine": (
        SMALLEST.replace("[ladders]", 'base_url = "http://127.0.0.1/v1"\n[ladders]'),
        "rung.toml:5: rungs.student.base_url does nothing for engine 'student'; remove it",
    ),
    "device that is elsewhere": (
        SMALLEST + CLOUD.format(where="device", url="https://api.example.com/v1"),
        "rung.toml:11: rungs.cloud.base_url is on 'api.example.com', but rungs.cloud.where says "
        "'device': texts that may not leave this device would be sent there; use a loopback "
        "address, or say 'site', 'region' or 'anywhere'",
    ),
    "unencrypted": (
        SMALLEST + CLOUD.format(where="anywhere", url="http://api.example.com/v1"),
        "rung.toml:11: rungs.cloud.base_url sends texts unencrypted to 'api.example.com': use "
        'https:// (http:// is for loopback addresses and for where = "site")',
    ),
    "no address": (
        SMALLEST + CLOUD.format(where="site", url="example.com"),
        'rung.toml:11: rungs.cloud.base_url must be an address such as "http://127.0.0.1:11434/v1", '
        "not 'example.com'",
    ),
    "secret in the address": (
        SMALLEST + CLOUD.format(where="site", url="https://me:hunter2@example.com/v1"),
        "rung.toml:11: rungs.cloud.base_url holds a user name or password; name an environment "
        "variable with api_key_env instead",
    ),
    "secret in the file": (
        SMALLEST
        + CLOUD.format(where="site", url="https://example.com/v1")
        + 'api_key = "hunter2"\n',
        "rung.toml:12: rungs.cloud.api_key would keep a secret in rung.toml; put it in an "
        'environment variable and name that with api_key_env = "NAME"',
    ),
    "secret instead of a name": (
        SMALLEST
        + CLOUD.format(where="site", url="https://example.com/v1")
        + 'api_key_env = "sk-hunter2"\n',
        "rung.toml:12: rungs.cloud.api_key_env must be the name of an environment variable, "
        "not what it is",
    ),
    "embedded elsewhere": (
        SMALLEST + EMBEDDED + 'where = "site"\n',
        "rung.toml:10: rungs.small.where must be 'device', not 'site': an embedded model runs on this machine",
    ),
    "adapter that is not loaded": (
        SMALLEST + EMBEDDED + 'adapter = "legl"\nload.adapters = { legal = "lora/legal.gguf" }\n',
        "rung.toml:10: rungs.small.adapter names 'legl', which is not in rungs.small.load.adapters; "
        "did you mean 'legal'?",
    ),
    "adapter outside": (
        SMALLEST + EMBEDDED + 'load.adapters = { legal = "../legal.gguf" }\n',
        "rung.toml:10: rungs.small.load.adapters.legal must stay below the folder of rung.toml, "
        "not '../legal.gguf'",
    ),
    "cache type without flash attention": (
        SMALLEST + EMBEDDED + 'load = { kv_type = "q8_0", flash_attention = "off" }\n',
        "rung.toml:10: rungs.small.load.kv_type 'q8_0' needs flash attention; take flash_attention = 'off' out, "
        "or use 'f16'",
    ),
    "context of an absurd size": (
        SMALLEST + EMBEDDED + "load = { context = 2147483647 }\n",
        "rung.toml:10: rungs.small.load.context must be a whole number of tokens from 64 to 1,048,576, "
        "not 2147483647",
    ),
    "load of another engine": (
        SMALLEST.replace("[ladders]", "load = { threads = 1 }\n[ladders]"),
        "rung.toml:5: rungs.student.load does nothing for engine 'student'; remove it",
    ),
    "replay of nothing": (
        SMALLEST + '[rungs.tape]\nengine = "replay"\nrecording = "a"\nreplays = "studnt"\n',
        "rung.toml:10: rungs.tape.replays names 'studnt', which is no rung; did you mean 'student'?",
    ),
    "replay of itself": (
        SMALLEST + '[rungs.tape]\nengine = "replay"\nrecording = "a"\nreplays = "tape"\n',
        "rung.toml:10: rungs.tape.replays names 'tape', which is a replay itself",
    ),
    "replay outside": (
        SMALLEST + '[rungs.tape]\nengine = "replay"\nrecording = "../a"\nreplays = "student"\n',
        "rung.toml:9: rungs.tape.recording must stay below the folder of rung.toml, not '../a'",
    ),
    "tasks outside": (
        'tasks_dir = "/etc"\n' + SMALLEST,
        "rung.toml:1: tasks_dir must stay below the folder of rung.toml, not '/etc'",
    ),
    "negative price": (
        SMALLEST + '[frontier]\ninput_per_million = -1\noutput_per_million = "1"\n',
        'rung.toml:8: frontier.input_per_million must be an amount such as "2.50", not negative, '
        "with at most nine decimals, not -1",
    ),
    "price too fine": (
        SMALLEST + '[frontier]\ninput_per_million = 0.12345678901\noutput_per_million = "1"\n',
        "rung.toml:8: frontier.input_per_million: '0.12345678901' is not an amount of at most "
        "nine decimals",
    ),
    "two currencies": (
        SMALLEST
        + CLOUD.format(where="site", url="https://example.com/v1")
        + 'price = {input_per_million = 1, output_per_million = 1, currency = "EUR"}\n'
        + "[frontier]\ninput_per_million = 1\noutput_per_million = 1\n",
        "rung.toml:13: frontier.currency is 'USD', but rungs.cloud.price.currency is 'EUR': use "
        "one currency",
    ),
    "limits": (
        SMALLEST.replace("[ladders]", "limits = {concurrency = 0}\n[ladders]"),
        "rung.toml:5: rungs.student.limits.concurrency must be a whole number from 1 to 4,096, "
        "not 0",
    ),
    "no table": (
        SMALLEST.replace("[ladders]", "limits = 3\n[ladders]"),
        "rung.toml:5: rungs.student.limits must be a table, not 3",
    ),
    "ledger elsewhere": (
        SMALLEST + '[ledger]\nurl = "postgresql://me:hunter2@db/x"\n',
        'rung.toml:8: ledger.url must be an address such as "sqlite:///rung.db", not what it is',
    ),
    "not TOML": (
        "format = 1\nrungs = [\n",
        "rung.toml:3: not valid TOML: Invalid value",
    ),
    "not TOML on a line": (
        "format = 1\nformat = 1\n[x]\n",
        "rung.toml:2: not valid TOML: Cannot overwrite a value (column 11)",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence_with_its_line(name: str, project: Path) -> None:
    """Every mistake names file, line or key, what is wrong and what is allowed, and shows no secret."""
    text, sentence = MISTAKES[name]
    lines = complaint(text)
    assert sentence in lines
    assert "hunter2" not in "".join(lines)


def test_all_mistakes_are_reported_together(project: Path) -> None:
    """Two unrelated mistakes are two lines of one error, in the order of the file."""
    text = SMALLEST.replace('["student"]', '["studnt"]').replace(
        "engine = ", "engin = 1\nengine = "
    )
    assert complaint(text) == [
        "rung.toml:3: unknown key 'rungs.student.engin'; did you mean 'engine'?",
        "rung.toml:7: ladders.default names 'studnt', which is no rung; did you mean 'student'?",
    ]


def test_many_mistakes_are_counted(project: Path) -> None:
    """After ten mistakes the rest are a number."""
    text = "".join(f"wrong{n} = 1\n" for n in range(14)) + SMALLEST
    lines = complaint(text)
    assert len(lines) == 11
    assert lines[-1] == "rung.toml: and 4 more"


@pytest.mark.parametrize(
    "url", ["http://localhost:1/v1", "http://[::1]:1/v1", "http://127.9.9.9/v1"]
)
def test_loopback_is_the_device(url: str, project: Path) -> None:
    """Every way of writing this machine's own address may be called the device."""
    (project / "rung.toml").write_text(SMALLEST + CLOUD.format(where="device", url=url))
    assert load_settings().rungs["cloud"].base_url == url


def test_a_neighbour_may_be_unencrypted(project: Path) -> None:
    """`http://` is accepted for a server on the site."""
    text = SMALLEST + CLOUD.format(where="site", url="http://10.0.0.5:8000/v1")
    (project / "rung.toml").write_text(text)
    assert load_settings().rungs["cloud"].where is Place.SITE


def test_a_link_does_not_lead_out(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A folder that is a link out of the project is outside."""
    (project / "tasks").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    assert complaint(SMALLEST) == [
        "rung.toml: tasks_dir must stay below the folder of rung.toml, not 'tasks'"
    ]


def test_files_that_are_no_settings(project: Path) -> None:
    """A missing, undecodable or huge file is a sentence."""
    with pytest.raises(ConfigError, match=r"^nowhere.toml: no such file$"):
        load_settings(Path("nowhere.toml"))
    Path("rung.toml").write_bytes(b"format = 1\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"^rung.toml:2: not UTF-8 \(byte 0xe9 at offset 16\)$"):
        load_settings()
    Path("rung.toml").write_bytes(b"#" * (5 * 2**20))
    with pytest.raises(ConfigError, match=r"^rung.toml: larger than 4 MiB$"):
        load_settings()


@pytest.mark.parametrize("amount", ["-1", "x", "1e400x", "0.0000000001", "nan", "inf"])
def test_amounts_that_are_none(amount: str) -> None:
    """Money is a decimal that nano-units can hold, and nothing else."""
    with pytest.raises(ValueError, match="is not a"):
        to_nano(amount)


def test_no_certified_rung_stands_above_one_that_answers_by_contract(tmp_path: Path) -> None:
    """It would only ever see rows the other failed on, and no certificate covers those."""
    rung = '[rungs.{0}]\nengine = "student"\nmodel = "m/{0}"\nwhere = "device"\naccept = "{1}"\n'
    text = "format = 1\n" + rung.format("low", "contract") + rung.format("high", "certified")
    (tmp_path / "rung.toml").write_text(text + '[ladders]\ndefault = ["low", "high"]\n')
    with pytest.raises(ConfigError, match="'high' cannot be certified above 'low'"):
        load_settings(tmp_path / "rung.toml")
