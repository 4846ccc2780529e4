import pytest

from reconciler.model.ref import ResourceRef

HEAD = "apiVersion: overlay.bsv/v1alpha1\n"


def ad(name: str, spec: str) -> str:
    return f"{HEAD}kind: Advertisement\nmetadata: {{name: {name}}}\nspec: {spec}\n"


def network(name: str) -> str:
    return f"{HEAD}kind: Network\nmetadata: {{name: {name}}}\nspec: {{chain: devnet}}\n"


def resource(loaded, kind: str, name: str):
    assert loaded.desired is not None, loaded.diagnostics
    return loaded.desired.resources[ResourceRef(kind, name)]


def test_a_dangling_reference_names_the_near_one_and_its_place(world, base, a_dataset) -> None:
    loaded = world.load(base, data=a_dataset("btc-ticks"), x=ad("feed", "{for: [{kind: Dataset, name: btc-tick}]}"))
    (one,) = loaded.errors
    assert (one.code, one.message) == ("E0312", 'Advertisement/feed refers to Dataset "btc-tick", which does not exist')
    assert (str(one.at), one.length, one.hint) == ("x.yaml:4:36", 8, 'did you mean "btc-ticks" (data.yaml:3)?')


def test_a_reference_to_another_kind_or_to_none_says_so(world, base, a_dataset) -> None:
    hints = {
        "Dataset, name: local": '"local" is of kind Network',
        "Dataset, name: zebra": "declare Dataset/zebra, or name another",
        "Stream, name: zebra": "this version has no kind Stream",
        "Datset, name: zebra": 'did you mean kind "Dataset"?',
    }
    for named, hint in hints.items():
        (one,) = world.load(base, x=ad("feed", f"{{for: [{{kind: {named}}}]}}")).errors
        assert (one.code, one.hint) == ("E0312", hint)


def test_a_reference_to_a_faulty_resource_does_not_dangle(world, base, a_dataset) -> None:
    loaded = world.load(base, data=a_dataset("d", "  replicas: two\n"), x=ad("feed", "{for: [{kind: Dataset, name: d}]}"))
    assert [one.code for one in loaded.errors] == ["E0109"]


def test_the_only_network_and_identity_are_filled_in(world, base, a_dataset) -> None:
    loaded = world.load(base, a_dataset("x"))
    found = resource(loaded, "Dataset", "x")
    assert (found.spec["networkRef"], found.spec["identityRef"]) == ("local", "main")
    assert ("/spec/networkRef", "the only Network") in loaded.filled[found.ref]


def test_several_or_no_candidates_are_an_error_with_a_hint(world, base, a_dataset) -> None:
    several = world.load(base, network("other"), x=a_dataset("x"))
    assert [(one.code, one.message, one.hint) for one in several.errors if one.at.file == "x.yaml"] == [
        ("E0313", "Dataset/x does not say which Network it uses, and there are 2", 'set networkRef: "local" or "other"')
    ]
    (none,) = [one for one in world.load(a_dataset("x", "  identityRef: main\n")).errors if one.code == "E0313"]
    assert (none.message, none.hint) == ("Dataset/x needs a Network, and there is none", "declare a Network")


@pytest.mark.row("P-REG-17", "P-REG-18")
def test_defaults_of_the_identity_are_inherited_and_traced(world, base, a_dataset) -> None:
    loaded = world.load(base, a_dataset("x"), ad("feed", "{ship: [tm_a]}"))
    found = resource(loaded, "Dataset", "x")
    assert (found.spec["license"], found.spec["tags"], found.spec["pricePlanRef"]) == ("commercial", ["crypto"], "standard")
    assert ResourceRef("PricePlan", "standard") in found.requires
    assert dict(loaded.filled[found.ref])["/spec/license"] == "Identity/main defaults.license (a.yaml:8)"
    assert resource(loaded, "Advertisement", "feed").spec["pricePlanRef"] == "standard"


def test_what_is_written_wins_and_a_price_keeps_the_plan_away(world, base, a_dataset) -> None:
    spec = resource(world.load(base, a_dataset("x", "  license: mit\n  tags: []\n  price: 5\n")), "Dataset", "x").spec
    assert (spec["license"], spec["tags"], spec["price"]) == ("mit", [], 5)
    assert "pricePlanRef" not in spec


def test_price_and_plan_together_are_refused(world, base, a_dataset) -> None:
    (one,) = world.load(base, a_dataset("x", "  price: 5\n  pricePlanRef: standard\n")).errors
    assert (one.code, one.message) == ("E0112", '"spec" wants price or pricePlanRef, not both')


def test_defaults_must_exist_and_are_no_dependency(world, base) -> None:
    identity = resource(world.load(base), "Identity", "main")
    assert identity.requires == frozenset()
    (one,) = world.load(base.replace("pricePlanRef: standard", "pricePlanRef: standart")).errors
    assert (one.code, one.hint) == ("E0312", 'did you mean "standard" (a.yaml:15)?')


def test_the_kind_may_name_more(world, base) -> None:
    world.kinds["Identity"].named = [("/networkRef", "Network", "local")]
    assert resource(world.load(base), "Identity", "main").requires == {ResourceRef("Network", "local")}
    world.kinds["Identity"].named = [("/key", "Dataset", "nothing")]
    (one,) = world.load(base + "# again\n").errors
    assert (one.code, one.at.pointer, one.at.line) == ("E0312", "/spec/key", 10)


@pytest.mark.row("S-38")
def test_topic_aliases_become_the_names_they_stand_for(world, base) -> None:
    loaded = world.load(base, ad("feed", "{ship: [market.data, tm_other, tm_market_data]}"))
    found = resource(loaded, "Advertisement", "feed")
    assert found.spec["ship"] == ["tm_market_data", "tm_other"]
    (one,) = world.load(base, x=ad("feed", "{ship: [market.dat]}")).errors
    assert (one.code, one.hint, str(one.at)) == ("E0315", 'did you mean "market.data"?', "x.yaml:4:15")


def test_a_circle_is_reported_once_edge_by_edge(world, base, a_dataset) -> None:
    def needs(name: str, other: str) -> str:
        return a_dataset(name, rest=f"lifecycle: {{dependsOn: [{{kind: Dataset, name: {other}}}]}}\n")

    loaded = world.load(base, x=needs("b", "c"), y=needs("c", "a"), z=needs("a", "b"), tail=needs("t", "a"))
    (one,) = loaded.errors
    assert one.code == "E0314"
    assert one.message == "resources need each other in a circle: Dataset/a -> Dataset/b -> Dataset/c -> Dataset/a"
    assert [(str(at), text) for at, text in one.related] == [
        ("z.yaml:7:47", "Dataset/a needs Dataset/b"),
        ("x.yaml:7:47", "Dataset/b needs Dataset/c"),
        ("y.yaml:7:47", "Dataset/c needs Dataset/a"),
    ]


def test_two_circles_and_a_self_reference_are_three_errors(world, base, a_dataset) -> None:
    def needs(name: str, *others: str) -> str:
        listed = ", ".join(f"{{kind: Dataset, name: {other}}}" for other in others)
        return a_dataset(name, rest=f"lifecycle: {{dependsOn: [{listed}]}}\n")

    loaded = world.load(base, needs("a", "b"), needs("b", "a"), needs("c", "d", "a"), needs("d", "c"), needs("e", "e"))
    assert [one.message.partition(": ")[2] for one in loaded.errors] == [
        "Dataset/a -> Dataset/b -> Dataset/a",
        "Dataset/c -> Dataset/d -> Dataset/c",
        "Dataset/e -> Dataset/e",
    ]


def price(name: str, old: str) -> str:
    metadata = f"{{name: {name}, renamedFrom: {old}}}"
    return f"{HEAD}kind: PricePlan\nmetadata: {metadata}\nspec: {{model: per-item, rate: 5sat}}\n"


def test_a_rename_says_what_it_was_and_fmt_keeps_it_by_the_name(world, base) -> None:
    found = resource(world.load(base, price("retail", "old-one")), "PricePlan", "retail")
    assert found.renamed_from == ResourceRef("PricePlan", "old-one")
    assert resource(world.load(base), "PricePlan", "standard").renamed_from is None
    (one,) = world.load(base, x=price("retail", "No")).errors
    assert (one.code, one.at.pointer) == ("E0111", "/metadata/renamedFrom")


def test_a_rename_from_what_is_still_declared_is_refused_with_both_places(world, base) -> None:
    (one,) = world.load(base, x=price("retail", "standard")).errors
    assert (one.code, str(one.at)) == ("E0302", "x.yaml:3:39")
    assert one.message == "PricePlan/retail cannot be renamed from PricePlan/standard, which is declared itself"
    assert [(str(at), text) for at, text in one.related] == [("a.yaml:15:18", "declared here")] and "two steps" in one.hint
    (itself,) = world.load(base, x=price("retail", "retail")).errors
    assert (itself.code, itself.related) == ("E0302", ())


def test_one_name_has_one_heir(world, base) -> None:
    (one,) = world.load(base, x=price("retail", "old"), y=price("wholesale", "old")).errors
    assert (one.code, one.at.file) == ("E0302", "y.yaml")
    assert one.message == "PricePlan/retail and PricePlan/wholesale are both renamed from PricePlan/old"
    assert [at.file for at, _ in one.related] == ["x.yaml"]
