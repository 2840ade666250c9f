"""The commands that make a run and open it again, with a tiny run."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ddpmkit.cli import main

PARTS = str(Path(__file__).with_name("parts.py"))


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPMKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def made(recipe, tmp_path_factory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("results") / "tiny"
    return folder, invoke("run", recipe, "--out", folder, "--plugin", PARTS)


@pytest.fixture
def finished(made) -> Path:
    return made[0]


def test_the_summary_lists_the_files_and_the_next_commands(made):
    folder, result = made
    assert result.exit_code == 0, result.stderr
    first, *_, sample, evaluate = result.stdout.splitlines()
    assert first.startswith("finished: 4 steps in ")
    assert sample == f"  ddpmkit sample {folder} -n 64 --plugin {PARTS}"
    assert evaluate == f"  ddpmkit evaluate {folder} --plugin {PARTS}"
    for path in ("samples/step-00000004.png", "viz/forward.png", "viz/backward.png", "report.html", "checkpoints"):
        assert f"  {folder}/{path}\n" in result.stdout
    assert "step 4/4  loss " in result.stderr
    assert "\x1b" not in result.stderr + result.stdout


def test_a_run_without_its_plugin_is_an_error_that_names_the_option(finished):
    result = invoke("sample", finished)
    assert result.exit_code == 2
    assert result.stderr.count(f"add --plugin {PARTS} to load the file that the run was made with") == 3


def test_a_finished_run_is_already_complete_when_run_again(recipe, finished):
    result = invoke("run", recipe, "--out", finished, "--plugin", PARTS)
    assert result.exit_code == 0
    assert result.stdout.startswith("already complete: all 4 steps were done before")
    assert "local/brightness  distance" in result.stdout  # the score of the log


def test_a_lock_file_without_out_says_where_its_run_goes(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("run", finished / "recipe.lock.toml", "--plugin", PARTS, "--set", "train.steps=2")
    assert f"this lock file starts a run in results/tiny; --out {finished} resumes its own run\n" in result.stderr
    assert (tmp_path / "results" / "tiny" / "report.html").exists()
    again = invoke("run", finished / "recipe.lock.toml", "--plugin", PARTS, "--out", finished)
    assert "this lock file" not in again.stderr


def test_set_changes_the_recipe(recipe, tmp_path):
    result = invoke("run", recipe, "--out", tmp_path, "--plugin", PARTS, "--set", "train.steps=2")
    assert result.stdout.startswith("finished: 2 steps")


def test_a_recipe_with_errors_exits_2_before_torch_is_imported(tmp_path):
    (tmp_path / "bad.toml").write_text("[train]\nstepz = 3\n")
    code = (
        "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules))\n"
        f"from ddpmkit.cli import main; main(['run', {str(tmp_path / 'bad.toml')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "False\n")
    excerpt = done.stderr.splitlines()
    (source,) = [line for line in excerpt if line.endswith("| stepz = 3")]
    marker = excerpt[excerpt.index(source) + 1]
    assert marker.index("^") == source.index("stepz")


def test_a_missing_recipe_exits_2(tmp_path):
    result = invoke("run", tmp_path / "none.toml")
    assert result.exit_code == 2
    assert result.stderr.startswith("error:")


def test_a_local_component_needs_its_plugin_file(recipe, tmp_path):
    result = invoke("run", recipe, "--out", tmp_path)
    assert result.exit_code == 2
    assert "local/greys" in result.stderr


def test_a_missing_plugin_file_exits_2(recipe):
    result = invoke("run", recipe, "--plugin", "none.py")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --plugin none.py: no such file")


def test_a_failed_run_exits_1_and_has_a_summary(recipe, tmp_path):
    result = invoke("run", recipe, "--out", tmp_path, "--plugin", PARTS, "--set", "train.learning_rate=1e300")
    assert result.exit_code == 1
    assert result.stdout.startswith("failed at step ")
    assert "error: step " in result.stderr


def test_samples_do_not_depend_on_their_number(finished, tmp_path):
    few, many = tmp_path / "few", tmp_path / "many"
    result = invoke("sample", finished, "-n", 2, "--separate", "--out", few, "--plugin", PARTS)
    assert (result.exit_code, result.stdout) == (0, f"2 images in {few}\n")
    invoke("sample", finished, "-n", 3, "--separate", "--out", many, "--plugin", PARTS)
    assert [path.name for path in sorted(many.iterdir())] == ["00000.png", "00001.png", "00002.png"]
    for name in ("00000.png", "00001.png"):
        assert (few / name).read_bytes() == (many / name).read_bytes()
    with Image.open(few / "00000.png") as image:
        assert image.size == (8, 8)
    assert (few / "00000.png").read_bytes() != (few / "00001.png").read_bytes()


def test_samples_from_the_seed_of_the_run_equal_its_grid(finished, tmp_path):
    invoke("sample", finished, "-n", 4, "--out", tmp_path / "grid.png", "--plugin", PARTS)
    with Image.open(tmp_path / "grid.png") as written, Image.open(finished / "samples" / "step-00000004.png") as own:
        assert written.tobytes() == own.tobytes()


def test_the_file_name_contains_everything_that_the_samples_depend_on(finished):
    result = invoke(
        "sample", finished, "--seed", 7, "--steps", 3, "--weights", "raw", "--plugin", PARTS
    )  # fmt: skip
    path = finished / "samples" / "seed-7-n-16-at-00000004-3-steps-raw.png"
    assert result.stdout == f"{path}\n"
    assert path.exists()


def test_another_sampler_can_be_used_with_the_same_weights(finished):
    result = invoke("sample", finished, "-n", 2, "--set", "sampler.use=ddim", "--plugin", PARTS)
    assert result.stdout.strip().endswith("-n-2-at-00000004-sampler.use=ddim.png")
    refused = invoke("sample", finished, "--set", "schedule.use=linear", "--plugin", PARTS)
    assert refused.exit_code == 2
    assert 'schedule.use: "cosine" -> "linear"' in refused.stderr


@pytest.mark.parametrize(
    ("command", "activity", "override"),
    [
        ("sample", "sampling", "train.steps=5"),
        ("sample", "sampling", "train.log_every=5"),
        ("sample", "sampling", "metric=[]"),
        ("sample", "sampling", "sampler.count=4"),
        ("visualize", "visualization", "name=other"),
        ("evaluate", "evaluation", "tracker=[]"),
    ],
)
def test_a_key_that_the_command_does_not_use_cannot_be_set(finished, command, activity, override):
    refused = invoke(command, finished, "--set", override, "--plugin", PARTS)
    assert refused.exit_code == 2
    key = override.partition("=")[0]
    assert f"--set {override}: {activity} does not use `{key}`\n" in refused.stderr


def test_a_key_without_effect_cannot_be_set(finished):
    options = ("--set", "sampler.use=heun", "--set", "sampler.churn_to=9.0", "--plugin", PARTS)
    refused = invoke("sample", finished, *options)
    assert refused.exit_code == 2
    assert "`churn_to` in [sampler] has no effect: churn = 0" in refused.stderr


def test_a_grid_can_be_written_to_another_folder(finished, tmp_path):
    result = invoke("sample", finished, "-n", 1, "--out", tmp_path / "mine", "--plugin", PARTS)
    assert result.stdout == f"{tmp_path}/mine/seed-0-n-1-at-00000004.png\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--out", "cats.jpg"], "  - use --out cats.png"),
        (["--steps", "6"], "5"),
        (["-n", "0"], "-n"),
        (["--seed", str(2**63)], "is not an integer from 0 to 2**63 - 1"),
        (["--seed", "cat"], "'cat' is not an integer"),
        (["--weights", "best"], 'but is "best"'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_options_of_sample_exit_2(finished, arguments, text):
    result = invoke("sample", finished, *arguments, "--plugin", PARTS)
    assert result.exit_code == 2
    assert text in result.stderr


@pytest.mark.parametrize("command", ["sample", "evaluate", "visualize"])
def test_a_folder_without_a_run_exits_2(command, tmp_path):
    result = invoke(command, tmp_path / "none")
    assert result.exit_code == 2
    assert "none does not exist" in result.stderr


OFFLINE = """
from ddpmkit.plugin import Component, ComponentUnavailable, hookimpl


class Offline:
    def __init__(self, config, *, device):
        raise ComponentUnavailable("its network is not here", remedies=["--skip-unavailable-metrics"])


@hookimpl
def ddpmkit_components():
    yield Component(kind="metric", name="offline", target=f"{__name__}:Offline", summary="needs what is not here")
"""


def test_evaluate_reports_that_no_metric_is_available(finished, tmp_path):
    (tmp_path / "offline.py").write_text(OFFLINE)
    plugins = ["--plugin", PARTS, "--plugin", tmp_path / "offline.py"]
    asked = ["--set", 'metric=[{use="local/offline"}]', "--skip-unavailable-metrics"]
    result = invoke("evaluate", finished, *asked, *plugins)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.splitlines() == [
        "skipped metric 'local/offline': its network is not here",
        "no scores: none of the run's metrics is available here",
    ]


def test_evaluate_prints_the_cost_first_and_all_facts_of_the_scores(finished):
    result = invoke("evaluate", finished, "--num-samples", 16, "--plugin", PARTS)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.index("16 samples, 5 network calls") < result.stderr.index("samples ...")
    rows = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert rows["metric"] == "local/brightness (plain protocol)"
    assert "real against real" in rows["distance"]
    assert (rows["samples"], rows["resize"]) == ("16", "none")


def test_visualize_names_both_strips(finished):
    result = invoke("visualize", finished, "--seed", 1, "--plugin", PARTS)
    assert result.stdout.splitlines() == [f"{finished}/viz/forward.png", f"{finished}/viz/backward.png"]


def test_the_critters_dataset_works_from_the_command_line(tmp_path):
    (tmp_path / "critters.toml").write_text(
        '[data]\nuse = "critters"\nimage_size = 8\n[diffusion]\ntimesteps = 4\n[backbone]\ndim = 8\n'
        '[train]\nsteps = 4\nbatch_size = 4\ndevice = "cpu"\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "ddpmkit", "run", "critters.toml"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "critters" / "report.html").exists()
    assert "  ddpmkit sample results/critters -n 64\n" in done.stdout


@pytest.mark.parametrize(
    ("command", "doing"),
    [
        (["sample"], "generating 16 samples"),
        (["interpolate", "0", "1"], "generating 8 samples"),
        (["evaluate"], "evaluating by local/brightness"),
        (["visualize"], "visualizing the forward and the reverse process"),
    ],
)
def test_a_component_that_fails_on_a_finished_run_is_named(finished, command, doing):
    name, *ends = command
    result = invoke(name, finished, *ends, "--plugin", PARTS, "--set", "sampler.use=local/failing")
    assert result.exit_code == 1
    assert f"sampler 'local/failing' failed while {doing}, with KeyError: 'beta'" in result.stderr
    assert "Traceback" not in result.stderr
