"""`init`, `new`, `set`, `fmt`, `explain`, `schema`, `build`, `version`, `completion`: what they write, refuse and print."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from reconciler.manifest.schema import packaged
from tests.cli.conftest import ROOT, Cli, run


@pytest.mark.row("P-REG-01", "P-REG-03")
@pytest.mark.parametrize("capabilities", ["market-data, analytics", '["market-data", "analytics"]'])
def test_init_writes_the_identity_that_was_described(tmp_path: Path, capabilities: str) -> None:
    words = ["--name", "CryptoMarkets Pro", "--description", "Ticks", "--capabilities", capabilities, "--regions", "US,EU"]
    made = run("init", "shop", *words, "-o", "json", cwd=tmp_path).json
    identity = yaml.safe_load((tmp_path / "shop" / "identity.yaml").read_text())
    assert identity["metadata"]["name"] == "cryptomarkets-pro"
    told = {key: identity["spec"][key] for key in ("displayName", "description", "capabilities", "regions")}
    assert told == {
        "displayName": "CryptoMarkets Pro",
        "description": "Ticks",
        "capabilities": ["market-data", "analytics"],
        "regions": ["US", "EU"],
    }
    assert {"identity.yaml", "network.yaml", "reconciler.yaml", ".gitignore"} <= set(made["files"])
    assert made["files"] == sorted(str(p.relative_to(tmp_path / "shop")) for p in (tmp_path / "shop").rglob("*") if p.is_file())


@pytest.mark.parametrize("template", ["identity", "market-data", "iot"])
def test_every_template_is_valid_canonical_and_ignores_keys(tmp_path: Path, template: str) -> None:
    run("init", "--template", template, cwd=tmp_path)
    run("validate", "--all", "--strict", cwd=tmp_path)
    assert run("fmt", "--check", cwd=tmp_path).out == ""
    assert {"/.keys/", "/.state/"} <= set((tmp_path / ".gitignore").read_text().splitlines())
    workflow = yaml.safe_load((tmp_path / ".github/workflows/manifests.yml").read_text())
    steps = [step.get("run", "") for step in workflow["jobs"]["manifests"]["steps"]]
    assert any(step.startswith("reconciler validate") for step in steps)
    assert any(step.startswith("reconciler plan") for step in steps)
    modeline = (tmp_path / "identity.yaml").read_text().splitlines()[0].partition("$schema=")[2]
    assert json.loads((tmp_path / modeline).read_text())["title"] == "overlay.bsv/v1alpha1"


def test_init_overwrites_nothing_and_writes_all_or_none(repo: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "network.yaml").write_text("mine\n")
    ran = run("init", other, cwd=tmp_path, expect=1)
    assert "network.yaml exists" in ran.err and "hint: " in ran.err
    assert [path.name for path in other.iterdir()] == ["network.yaml"]
    assert (other / "network.yaml").read_text() == "mine\n"


@pytest.mark.row("P-REG-20")
def test_init_points_at_a_network_and_at_a_key_that_exists(tmp_path: Path) -> None:
    words = ["--overlay-url", "https://overlay.example.com/", "--chain", "main", "--identity-key"]
    run("init", "a", *words, "env:DESK_KEY", cwd=tmp_path)
    assert yaml.safe_load((tmp_path / "a/identity.yaml").read_text())["spec"]["key"] == {"env": "DESK_KEY", "generate": "never"}
    network = yaml.safe_load((tmp_path / "a/network.yaml").read_text())
    assert (network["spec"]["chain"], network["spec"]["overlays"][0]["url"]) == ("main", "https://overlay.example.com")
    run("validate", "a", cwd=tmp_path)
    # A test network takes one word, and has somebody to send to and headers to check against.
    run("init", "t", "--network", "test", "--overlay-url", "https://overlay.example.com", cwd=tmp_path)
    test = yaml.safe_load((tmp_path / "t/network.yaml").read_text())["spec"]
    assert test["chain"] == "test" and test["headers"]["url"].startswith("https://")
    assert [one["url"].startswith("https://testnet.") for one in test["broadcasters"]] == [True]
    run("validate", "t", cwd=tmp_path)
    ran = run("init", "b", *words, "11" * 32, cwd=tmp_path, expect=1)
    assert "cannot take a key from the command line" in ran.err and "11" * 32 not in ran.err + ran.out
    assert not (tmp_path / "b").exists()


def test_new_writes_a_manifest_from_flags(cli: Cli, repo: Path) -> None:
    (repo / "data" / "eth.csv").write_text("a,b\n1,2\n")
    words = [
        "--file",
        "data/eth.csv",
        "--title",
        "Ether",
        "--tags",
        '["eth","ohlc"]',
        "--price",
        "5000sat",
        "--license",
        "CC0-1.0",
    ]
    ran = cli("new", "dataset", "eth", *words, "--description", "Daily", "--set", "metadata.labels={team: markets}")
    assert ran.out == "dataset-eth.yaml\n"
    made = yaml.safe_load((repo / "dataset-eth.yaml").read_text())
    assert made["metadata"] == {"name": "eth", "labels": {"team": "markets"}}
    assert made["spec"] == {
        "content": {"file": "data/eth.csv"},
        "title": "Ether",
        "description": "Daily",
        "tags": ["eth", "ohlc"],
        "license": "CC0-1.0",
        "price": "5000sat",
    }
    cli("validate", "--strict")
    again = cli("new", "dataset", "eth", *words, expect=1)
    assert "stands in dataset-eth.yaml already" in again.err


@pytest.mark.row("P-DIST-10")
def test_new_writes_a_rule_for_named_hosts(cli: Cli, repo: Path) -> None:
    cli("new", "distributionrule", "spread", "--nodes", "eu1,us1", "--replication", "2")
    made = yaml.safe_load((repo / "distributionrule-spread.yaml").read_text())
    assert made["spec"] == {"nodes": ["eu1", "us1"], "replicas": {"min": 2}}
    cli("validate")


def test_new_names_what_is_missing_and_refuses_what_is_wrong(cli: Cli, repo: Path) -> None:
    ran = cli("new", "dataset", "later", "--title", "Later")
    assert 'missing field "content"' in ran.err
    assert "  # content: needed. " in (repo / "dataset-later.yaml").read_text()
    (repo / "dataset-later.yaml").unlink()
    ran = cli("new", "dataset", "bad", "--file", "data/btc-daily.csv", "--title", "x", "--price", "lots", expect=1)
    assert "E0203" in ran.err and "nothing was written" in ran.err
    assert not (repo / "dataset-bad.yaml").exists()
    printed = cli("new", "priceplan", "p", "--model", "per-item", "--rate", "3sat", "--to", "-")
    assert yaml.safe_load(printed.out)["spec"] == {"model": "per-item", "rate": "3sat"}
    cli("new", "priceplan", "p", "--model", "per-item", "--rate", "3sat", "--to", "prices.yaml")
    assert [d["metadata"]["name"] for d in yaml.safe_load_all((repo / "prices.yaml").read_text())] == ["standard", "p"]


@pytest.mark.row("P-REG-08")
def test_set_changes_the_field_and_no_other_byte(cli: Cli, repo: Path) -> None:
    path = repo / "identity.yaml"
    before = path.read_text().replace("register: true", "register: true  # so that buyers find us")
    path.write_text(before)
    ran = cli("set", "identity/corner-desk", "capabilities+=options-data", "regions=[EU]")
    after = path.read_text()
    assert yaml.safe_load(after)["spec"]["capabilities"] == ["options-data"]
    added = [line for line in after.splitlines() if line not in before.splitlines()]
    assert added == ["  capabilities: [options-data]", "  regions: [EU]"]
    assert [line for line in before.splitlines() if line not in after.splitlines()] == []
    assert "+  regions: [EU]" in ran.out and ran.out.startswith("--- a/identity.yaml")
    cli("set", "Identity/corner-desk", "capabilities-=options-data")
    assert yaml.safe_load(path.read_text())["spec"]["capabilities"] == []
    cli("set", "priceplan/standard", "rate=3000sat")
    assert yaml.safe_load((repo / "prices.yaml").read_text())["spec"]["rate"] == "3000sat"
    cli("set", "advertisement/btc-daily", "maxConsumers=50", "availability.target=99.5%", "regions+=AP")
    spec = yaml.safe_load((repo / "advertisements.yaml").read_text())["spec"]
    assert (spec["maxConsumers"], spec["availability"], spec["regions"]) == (50, {"target": "99.5%"}, ["AP"])
    cli("validate")


def test_set_refuses_what_would_make_the_repository_invalid(cli: Cli, repo: Path) -> None:
    texts = {path: path.read_bytes() for path in repo.glob("*.yaml")}
    for words in (
        ("dataset/btc-daily", "replicas=two"),
        ("dataset/btc-daily", "pricePlanRef=nothing"),
        ("dataset/btc-daily", "titel=x"),
        ("priceplan/standard", "metadata.name=other"),
        ("dataset/btc-dayly", "replicas=2"),
        ("dataset/btc-daily", "tags-=absent"),
    ):
        ran = cli("set", *words, expect=1)
        assert ran.out == "" and "error: cannot " in ran.err, words
    assert {path: path.read_bytes() for path in repo.glob("*.yaml")} == texts
    assert "did you mean Dataset/btc-daily?" in cli("set", "dataset/btc-dayly", "replicas=2", expect=1).err
    cli("set", "dataset/btc-daily", "replicas", expect=64)
    dry = cli("set", "dataset/btc-daily", "replicas=2", "--dry-run", "-o", "json").json
    assert dry == {"key": "Dataset/btc-daily", "file": "datasets.yaml", "changed": True, "written": False}
    assert (repo / "datasets.yaml").read_bytes() == texts[repo / "datasets.yaml"]


def test_set_repairs_a_repository_that_is_broken_already(cli: Cli, repo: Path) -> None:
    (repo / "datasets.yaml").write_text((repo / "datasets.yaml").read_text() + "  replicas: two\n")
    (repo / "prices.yaml").write_text((repo / "prices.yaml").read_text().replace("5000sat", "much"))
    cli("set", "dataset/btc-daily", "replicas=2")
    cli("set", "priceplan/standard", "rate=5sat")
    cli("validate")


def test_set_changes_the_patch_of_an_environment(cli: Cli, repo: Path) -> None:
    patch = repo / "overlays" / "prod" / "prices.yaml"
    patch.parent.mkdir(parents=True)
    patch.write_text("apiVersion: overlay.bsv/v1alpha1\nkind: PricePlan\nmetadata: {name: standard}\nspec: {rate: 1sat}\n")
    cli("set", "priceplan/standard", "rate=2sat", "-e", "prod")
    assert "rate: 2sat" in patch.read_text() and "rate: 5000sat" in (repo / "prices.yaml").read_text()
    assert "it has no patch there" in cli("set", "dataset/btc-daily", "replicas=2", "-e", "prod", expect=1).err
    rates = [yaml.safe_load_all(cli("build", *words).out) for words in ((), ("-e", "prod"))]
    assert [next(d["spec"]["rate"] for d in made if d["kind"] == "PricePlan") for made in rates] == [5000, 2]


def test_fmt_checks_shows_and_writes(cli: Cli, repo: Path) -> None:
    canonical = (repo / "prices.yaml").read_text()
    head = "# the price\nkind: PricePlan\napiVersion: overlay.bsv/v1alpha1\nmetadata: {name: standard}\n"
    untidy = head + "spec:\n  rate: 5sat  \n  model: per-item\n"
    (repo / "prices.yaml").write_text(untidy)
    assert cli("fmt", "--check", expect=1).out == "prices.yaml\n"
    assert "-  rate: 5sat  \n" in cli("fmt", "--check", "--diff", expect=1).out
    assert (repo / "prices.yaml").read_text() == untidy
    assert cli("fmt").out == "prices.yaml\n"
    tidy = (repo / "prices.yaml").read_text()
    assert tidy.index("apiVersion") < tidy.index("kind: PricePlan") and "# the price" in tidy and tidy != canonical
    assert cli("fmt", "-", stdin=untidy).out == tidy
    (repo / "prices.yaml").write_text("a: [1\n")
    ran = cli("fmt", expect=1)
    assert "prices.yaml: cannot format the file" in ran.err


@pytest.mark.row("P-CFG-12")
def test_every_field_of_every_kind_can_be_explained() -> None:
    from reconciler.cli.output import plain
    from reconciler.cli.reference import _as_json, _explained
    from reconciler.manifest.describe import FieldDoc, describe

    seen = 0
    waiting: list[FieldDoc] = [describe(kind) for kind in packaged()]
    while waiting:
        doc = waiting.pop()
        seen += 1
        text = _explained(doc, plain)
        assert doc.type and doc.description.strip(), f"{doc.kind}.{doc.path} says nothing"
        assert doc.description.split()[0] in text and _as_json(doc)["kind"] == doc.kind
        waiting += [describe(one.kind, one.path) for one in doc.fields]
    assert seen > 250


@pytest.mark.row("P-CFG-12")
def test_every_verb_and_every_option_says_what_it_does() -> None:
    from typer.main import get_command

    from reconciler.cli import main

    seen, silent = 0, []
    waiting = [("reconciler", get_command(main.bind()))]
    while waiting:
        name, command = waiting.pop()
        seen += 1
        if not (command.help or "").strip():
            silent.append(name)
        silent += [f"{name} {param.name}" for param in command.params if not getattr(param, "help", None)]
        waiting += [(f"{name} {word}", below) for word, below in getattr(command, "commands", {}).items()]
    assert silent == []
    assert seen > 40


@pytest.mark.row("P-CFG-12", "P-REG-17")
def test_explain_tells_type_default_and_where_an_omitted_value_comes_from(tmp_path: Path) -> None:
    said = run("explain", "dataset.content.fileSet.parallelUploads", cwd=tmp_path).out
    assert said.startswith("Dataset.spec.content.fileSet.parallelUploads  whole number\n") and "default: 4" in said
    assert (
        "if omitted: defaults.pricePlanRef of the resource that identityRef names"
        in run("explain", "Dataset.pricePlanRef", cwd=tmp_path).out
    )
    assert "FIELDS OF SPEC" in run("explain", "datasets", cwd=tmp_path).out
    assert run("explain", "dataset.title", "-o", "json", cwd=tmp_path).json["path"] == "spec.title"
    assert set(run("explain", "-o", "json", cwd=tmp_path).json) == set(packaged())
    assert "did you mean title?" in run("explain", "dataset.titel", cwd=tmp_path, expect=1).err


def test_schema_prints_what_validates(tmp_path: Path) -> None:
    assert run("schema", "dataset", cwd=tmp_path).json == packaged()["Dataset"]
    assert set(run("schema", cwd=tmp_path).json["properties"]["kind"]["enum"]) == set(packaged())


def test_build_prints_what_the_planner_sees(cli: Cli, repo: Path) -> None:
    documents = cli("build", "-o", "json").json
    assert list(yaml.safe_load_all(cli("build").out)) == documents
    dataset = next(one for one in documents if one["kind"] == "Dataset")
    assert dataset["spec"]["identityRef"] == "corner-desk" and dataset["spec"]["replicas"] == 1
    (repo / "prices.yaml").write_text("kind: PricePlan\n")
    ran = cli("build", expect=1)
    assert ran.out == "" and "error[E0108]" in ran.err


def test_version_and_completion(tmp_path: Path) -> None:
    version = run("version", "-o", "json", cwd=tmp_path).json
    assert run("version", cwd=tmp_path).out.startswith(f"reconciler {version['reconciler']} ")
    assert run("--version", cwd=tmp_path).out == f"reconciler {version['reconciler']}\n"
    for shell in ("bash", "zsh", "fish"):
        assert "_RECONCILER_COMPLETE" in run("completion", shell, cwd=tmp_path).out
    script = tmp_path / "complete.bash"
    script.write_text(run("completion", "bash", cwd=tmp_path).out)
    subprocess.run(["bash", "-n", str(script)], check=True)
    asked = {"_RECONCILER_COMPLETE": "complete_bash", "COMP_WORDS": "reconciler vali", "COMP_CWORD": "1"}
    assert run(cwd=tmp_path, env=asked).out.split() == ["validate"]


@pytest.mark.parametrize("example", sorted((ROOT / "examples").rglob("reconciler.yaml")), ids=lambda path: path.parent.name)
def test_the_examples_are_valid_in_every_environment(example: Path) -> None:
    run("validate", "--all", "--strict", cwd=example.parent)


@pytest.mark.row("P-REG-17", "P-PAY-28")
def test_explain_shows_the_arithmetic_of_a_price(cli: Cli, repo: Path) -> None:
    cli("new", "priceplan", "by-the-minute", "--model", "per-minute", "--rate", "15sat", "--to", "prices.yaml")
    cli(
        "set",
        "priceplan/by-the-minute",
        'tiers=[{"from": 600, "rate": "12sat"}]',
        "free.units=1",
        'tierDiscounts={"premium": "10%"}',
    )
    words = ("explain", "--price", "priceplan/by-the-minute", "--units", "600", "--tier", "premium")
    assert cli(*words).out.splitlines() == [
        "1 minute free                         0 sat",
        "598 minutes at 15 sat             8,970 sat",
        "1 minute at 12 sat (from 600 on)     12 sat",
        "10% off for premium                -898 sat",
        "to pay                            8,084 sat",
    ]
    assert cli(*words, "--used", "1000", "-o", "json").json["satoshis"] == 6480
    assert cli("explain", "--price", "dataset/btc-daily").out.splitlines()[-1] == "to pay              5,000 sat"
    assert "cannot price PricePlan/none: no manifest declares it" in cli("explain", "--price", "priceplan/none", expect=1).err
    assert "cannot price Identity/corner-desk: it has no price" in cli("explain", "--price", "identity/corner-desk", expect=1).err
