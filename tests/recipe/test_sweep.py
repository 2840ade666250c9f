import pytest

from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import RecipeError, read_recipe, read_sweep

GRID = """
name = "many"
[data]
use = "critters"
[sweep.over]
schedule.use = ["cosine", "linear"]
train.betas = [[0.5, 0.9], [0.9, 0.999]]
"""


@pytest.fixture
def sweep(folder, registry):  # type: ignore[no-untyped-def]
    def sweep(text: str, *overrides: str):  # type: ignore[no-untyped-def]
        (folder / "mine.toml").write_text(text)
        return read_sweep("mine.toml", overrides=overrides, registry=registry)

    return sweep


def test_a_grid_is_every_combination_of_values(sweep) -> None:  # type: ignore[no-untyped-def]
    name, runs = sweep(GRID)
    assert name == "many"
    assert [run.changes for run in runs] == [
        {"schedule.use": use, "train.betas": betas}
        for use in ("cosine", "linear")
        for betas in ([0.5, 0.9], [0.9, 0.999])
    ]
    assert [run.recipe.schedule.component.use for run in runs] == ["cosine", "cosine", "linear", "linear"]
    assert [run.recipe.train.betas for run in runs][:2] == [(0.5, 0.9), (0.9, 0.999)]
    assert len({run.name for run in runs}) == 4
    assert runs[2].name == "3-linear-0.5_0.9"
    assert runs[2].recipe.name == "many-3-linear-0.5_0.9"


def test_a_zip_combines_values_in_order(sweep) -> None:  # type: ignore[no-untyped-def]
    _, runs = sweep(GRID.replace("[sweep.over]", "[sweep]\nmode = 'zip'\n[sweep.over]"))
    assert [(run.recipe.schedule.component.use, run.recipe.train.betas) for run in runs] == [
        ("cosine", (0.5, 0.9)),
        ("linear", (0.9, 0.999)),
    ]


def test_an_ablation_changes_one_value_at_a_time(sweep) -> None:  # type: ignore[no-untyped-def]
    _, runs = sweep(GRID.replace("[sweep.over]", "[sweep]\nmode = 'ablation'\n[sweep.over]"))
    assert [run.changes for run in runs] == [
        {},
        {"schedule.use": "cosine"},
        {"schedule.use": "linear"},
        {"train.betas": [0.5, 0.9]},
        {"train.betas": [0.9, 0.999]},
    ]
    assert [run.name for run in runs[:3]] == ["1-unchanged", "2-cosine", "3-linear"]
    assert runs[0].recipe.name == "many-1-unchanged"


def test_a_recipe_without_a_sweep_is_one_run(sweep, registry: Registry) -> None:  # type: ignore[no-untyped-def]
    name, (run,) = sweep("[train]\nsteps = 7\n")
    assert (name, run.changes) == ("mine", {})
    assert run.recipe == read_recipe("mine.toml", registry=registry)


def test_overrides_apply_to_the_runs_and_to_the_sweep(sweep) -> None:  # type: ignore[no-untyped-def]
    _, runs = sweep(GRID, "train.steps=5", 'sweep.over.schedule.use=["linear"]')
    assert [(run.recipe.train.steps, run.recipe.schedule.component.use) for run in runs] == [(5, "linear")] * 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[sweep.over]\nschedule.use = 'linear'\n", "mine.toml:2:16: `schedule.use` in [sweep.over] must be a list"),
        ("[sweep.over]\nschedule.use = []\n", "must be a list of values"),
        (
            "[sweep]\nmode = 'zip'\n[sweep.over]\na.b = [1]\nc.d = [1, 2]\n",
            "lists of the same length: a.b has 1 value, c.d has 2 values",
        ),
        ("[sweep]\nmode = 'grid'\n", "`over` is missing in [sweep]"),
        ("[sweep]\nover = {a = [1]}\nsteps = 3\n", "unknown key `steps` in [sweep]"),
        ("sweep = 3\n", "mine.toml:1:9: `sweep` must be a single table"),
        ("[sweep.over]\nschedule.use = ['cosin']\n", "did you mean 'cosine'?"),
        (f"[sweep.over]\ntrain.seed = {list(range(1001))}\n", "more than 1,000 runs"),
    ],
)
def test_an_invalid_sweep_is_reported_at_its_place(sweep, text: str, expected: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RecipeError) as caught:
        sweep(text)
    assert expected in str(caught.value)


def test_a_problem_of_several_runs_is_reported_once_at_its_place(sweep) -> None:  # type: ignore[no-untyped-def]
    text = """[sweep.over]
schedule.use = ["cosine", "linea"]
train.stepss = [1]
train.learning_rate = [1e-3, "fast", -1]
"""
    with pytest.raises(RecipeError) as caught:
        sweep(text)
    places = [(problem.source, *(problem.span or ())[:3], problem.message) for problem in caught.value.problems]
    assert places == [
        ("mine.toml", 2, 27, 7, "there is no schedule `linea`"),
        ("mine.toml", 3, 7, 6, "unknown key `stepss` in [train]"),
        ("mine.toml", 4, 30, 6, '`learning_rate` in [train] must be a number above 0, but is "fast"'),
        ("mine.toml", 4, 38, 2, "`learning_rate` in [train] must be a number above 0, but is -1"),
    ]


def test_a_problem_of_a_sweep_from_the_command_line_names_the_option(sweep) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RecipeError) as caught:
        sweep(GRID, 'sweep.over.train.steps=[1, "x"]')
    (problem,) = caught.value.problems
    assert (problem.source, problem.span) == ('--set sweep.over.train.steps=[1, "x"]', None)


def test_a_sweep_cannot_be_read_as_a_single_run(folder, registry: Registry) -> None:  # type: ignore[no-untyped-def]
    (folder / "mine.toml").write_text(GRID)
    with pytest.raises(RecipeError, match="use `ddpmkit sweep`"):
        read_recipe("mine.toml", registry=registry)
