"""Proves `python -m trainer`: a trial runs from a file, continues, and bad files are explained without a traceback."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from trainer.__main__ import main
from trainer.distributed import own_device
from trainer.errors import EnvironmentProblem
from trainer.record import Record
from trainer.yaml.writer import yaml_document


def write(path: Path, content: Any) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_a_trial_runs_and_a_second_call_has_nothing_to_do(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "trial.yaml", toy)
    arguments = [file, "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    assert main(arguments) == 0
    assert "rung/fid" in capsys.readouterr().out
    before = (tmp_path / "out" / "result.json").stat().st_mtime_ns
    assert main(arguments) == 0
    assert (tmp_path / "out" / "result.json").stat().st_mtime_ns == before


def test_a_finished_trial_says_where_its_numbers_are_and_prints_them(
    toy: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the home of the environment, under the key of what `-o` made of the trial."""
    monkeypatch.setenv("DIFFSWEEP_HOME", str(tmp_path / "home"))
    arguments = [write(tmp_path / "t.yaml", toy), "-o", "optimizer.lr=1e-4"]
    assert main(arguments) == 0
    (directory,) = (tmp_path / "home" / "trials").iterdir()
    result = Record(directory).result()
    assert result is not None
    assert (tmp_path / "home" / "cache").is_dir()
    capsys.readouterr()
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "there is nothing left to train" in told
    assert f"{result.metrics['eval/fid']:.6g}" in told
    assert str(directory / "result.json") in told
    assert not (directory / "pulse.json").exists()


def test_divergence_is_exit_code_one(toy: dict[str, Any], tmp_path: Path) -> None:
    file = write(
        tmp_path / "t.yaml", {**toy, "optimizer": {"lr": 1000.0, "kind": "sgd", "grad_clip": None}}
    )
    assert main([file, "--out", str(tmp_path / "o"), "--cache", str(tmp_path / "c")]) == 1
    assert Record(tmp_path / "o").result() is not None


def test_two_do_not_train_in_one_directory(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "t.yaml", toy)
    with Record(tmp_path / "o").writer():
        assert main([file, "--out", str(tmp_path / "o"), "--cache", str(tmp_path / "c")]) == 3
    error = capsys.readouterr().err
    assert "another process trains there (process" in error
    assert "choose another --out" in error


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "seed: 1\ndata: [",
            "{file}:2: not valid YAML: the text ends inside a `[` or `{{`: close it\n",
        ),
        (
            "- a",
            "{file}:1: a trial is a mapping, this is `[a]`: a trial needs data, model, train and "
            "evaluation\n",
        ),
        (
            "seed: 1\ndata: {kind: digitz}",
            "{file}:2: data.kind: unknown kind `digitz`, did you mean `digits`?\n",
        ),
        ("seedz: 1", "{file}:1: seedz: unknown key, did you mean `seed`?\n"),
        ("", "{file}: is empty: a trial needs data, model, train and evaluation\n"),
        (
            "name: x\nbase: p.yaml",
            "{file}: is an experiment, this command takes one trial: use `diffsweep run`\n",
        ),
    ],
)
def test_bad_files_are_exit_code_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, words: str
) -> None:
    file = write(tmp_path / "t.yaml", content)
    assert main([file]) == 2
    error = capsys.readouterr().err
    assert words.format(file=file) in error
    assert "Traceback" not in error


def test_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path}/none.yaml: does not exist; it is looked for in {tmp_path}\n"
    )


def test_what_the_trainer_finds_is_told_at_its_line(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"kind": "image_folder", "path": str(tmp_path / "none"), "size": 8}
    model = {"kind": "unet", "channels": [8], "groups": 4, "attention": []}
    rest = {key: value for key, value in toy.items() if key not in ("data", "model")}
    file = tmp_path / "t.yaml"
    file.write_text(f"seed: 1\n{yaml_document({**rest, 'model': model})}data: {json.dumps(data)}\n")

    assert main([str(file)]) == 2

    error = capsys.readouterr().err
    assert error.startswith(f"{file}:{len(file.read_text().splitlines())}: data.path: ")
    assert "Traceback" not in error


def test_options_change_the_trial_and_are_named_when_they_are_wrong(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "t.yaml", toy)
    places = ["--out", str(tmp_path / "o"), "--cache", str(tmp_path / "c")]
    assert main([file, *places, "-o", "optimizer={kind: sgd, lr: 1000, grad_clip: null}"]) == 1
    assert main([file, *places, "-o", "optimizer.lr=fast"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "-o optimizer.lr=fast: optimizer.lr: must be a number, not `fast`"
    )
    assert main([file, *places, "-o", "optimiser.lr=1"]) == 2
    assert "did you mean `optimizer.lr`?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (
            "train.kimg",
            "-o train.kimg: write an override as -o path=value, such as -o train.kimg=20",
        ),
        (
            "train={kimg: 1",
            "-o train={kimg: 1: train: not valid YAML: a mapping opened with `{` is not closed",
        ),
        ("train.kimgs=1", "-o train.kimgs=1: train.kimgs: unknown key, did you mean `train.kimg`?"),
        (
            "ema=[{kind: ramp}, {kind: rampp}]",
            "-o ema=[{kind: ramp}, {kind: rampp}]: ema[1].kind: unknown kind `rampp`, did you mean `ramp`?",
        ),
        (
            "optimizer.momentum=0.5",
            "-o optimizer.momentum=0.5: optimizer.momentum: unknown key of `adamw`: it belongs to another kind of "
            "`optimizer`",
        ),
        (
            "train.kimg=0.001",
            "-o train.kimg=0.001: train.kimg: 0.001 is less than one batch of 64: write 0.064 or more",
        ),
        (
            "model.width.deep=1",
            "-o model.width.deep=1: model.width.deep: `model.width` is a single value, there is nothing inside it",
        ),
    ],
)
def test_a_bad_option_is_one_line_in_its_own_words(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, said: str
) -> None:
    assert main([write(tmp_path / "t.yaml", toy), "-o", option]) == 2
    assert capsys.readouterr().err == said + "\n"


def test_a_fault_of_the_file_keeps_its_line_when_options_are_given(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are told, each where it was written; a value that an option mends is no fault."""
    file = tmp_path / "t.yaml"
    file.write_text(f"seed: x\n{yaml_document(toy)}")
    assert main([str(file), "-o", "train.kimg=-1"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "-o train.kimg=-1: train.kimg: must be greater than 0, not `-1`",
        f"{file}:1: seed: must be a whole number, not `x`",
    ]
    places = ["--out", str(tmp_path / "o"), "--cache", str(tmp_path / "c")]
    options = ["-o", "seed=3", "-o", "optimizer={kind: sgd, lr: 1000, grad_clip: null}"]
    assert main([str(file), *places, *options]) == 1, "and the last one makes it diverge"
    trained = Record(tmp_path / "o").trial()
    assert trained is not None
    assert (trained.seed, trained.optimizer.kind) == (3, "sgd")


def test_what_an_option_resets_is_a_note(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "t.yaml", {**toy, "optimizer": {"kind": "adamw", "weight_decay": 0.1}})
    assert main([file, "-o", "optimizer={kind: adamw, lr: 0}"]) == 2
    note, error = capsys.readouterr().err.splitlines()
    assert note.startswith("note: -o optimizer={kind: adamw, lr: 0}: ")
    assert "`weight_decay` falls back to the default" in note
    assert error.endswith("optimizer.lr: must be greater than 0, not `0`")


def test_help_names_the_ways_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("-o PATH=VALUE", "torchrun", "exit status", "--cache"))


def test_a_device_that_is_not_there_and_a_folder_that_cannot_be(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "t.yaml", toy)
    (tmp_path / "file").write_text("")
    assert main([file, "--out", str(tmp_path / "file" / "out"), "--cache", str(tmp_path)]) == 3
    assert "choose another --out" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert main([file, "--out", str(tmp_path / "o"), "--device", "cuda"]) == 3
        assert "no CUDA device; use cpu or auto" in capsys.readouterr().err


def test_a_directory_keeps_its_trial_when_that_is_done(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "t.yaml", toy)
    where = ["--out", str(tmp_path / "o"), "--cache", str(tmp_path / "c")]
    assert main([file, *where]) == 0
    assert main([file, *where]) == 0, "the same again is done"
    assert main([file, *where, "-o", "optimizer.lr=0.123"]) == 2
    assert "holds another trial" in capsys.readouterr().err


def test_so_it_does_with_other_pictures(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(6):
        target = tmp_path / "photos" / f"{i}.png"
        target.parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4), 40 * i).save(target)
    data = {"kind": "image_folder", "path": str(tmp_path / "photos"), "size": 4, "grayscale": True}
    trial = {**toy, "data": data, "train": {"kimg": 0.008, "batch_size": 4}}
    trial["evaluation"] = {
        "evaluations": 1,
        "features": {"kind": "pixels"},
        "full": {"images": 4, "steps": 2},
    }
    file = write(tmp_path / "t.yaml", trial)
    where = ["--out", str(tmp_path / "o"), "--cache", str(tmp_path / "c")]
    assert main([file, *where]) == 0
    Image.new("L", (4, 4), 250).save(tmp_path / "photos" / "7.png")
    assert main([file, *where]) == 2
    assert "holds this trial with other data: choose another --out" in capsys.readouterr().err


def test_each_worker_of_torchrun_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert own_device("auto") == "auto", "without torchrun"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_device("auto") == own_device("cuda") == "cuda:1"
    assert chosen == [1, 1]
    assert (own_device("cpu"), own_device("cuda:0")) == ("cpu", "cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(EnvironmentProblem, match="worker 2 has no GPU of its own, there are 2"):
        own_device("auto")


def test_an_interrupted_training_says_how_to_go_on(
    toy: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer.__main__.train", interrupted)
    out = ["--out", str(tmp_path / "o"), "--cache", str(tmp_path / "c")]
    assert main([write(tmp_path / "t.yaml", toy), *out]) == 130
    assert capsys.readouterr().err == "stopped; the same command continues\n"


def test_several_seeds_train_at_once_and_each_is_the_trial_of_its_seed(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, home = write(tmp_path / "t.yaml", toy), str(tmp_path / "h")
    assert main([file, "--home", home, "--seeds", "0-1,5"]) == 0
    told = capsys.readouterr().out
    assert all(f"seed {seed}    finished: " in told for seed in (0, 1, 5))
    assert main([file, "--home", str(tmp_path / "one"), "-o", "seed=5"]) == 0
    (expected,) = (tmp_path / "one" / "trials").iterdir()
    same = Record(tmp_path / "h" / "trials" / expected.name)
    known, other = Record(expected).result(), same.result()
    assert known is not None
    assert other is not None
    assert known.metrics["eval/fid"] == other.metrics["eval/fid"]
    assert main([file, "--home", home, "--seeds", "0-1,5"]) == 0, "nothing left"
    assert "kimg" not in capsys.readouterr().out.partition("seed 0    finished")[2]


def test_several_seeds_train_as_one_program(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "t.yaml", toy)
    found = []
    for option in ([], ["--ensemble"]):
        home = tmp_path / f"home{len(option)}"
        assert main([file, "--home", str(home), "--seeds", "0-2", *option]) == 0
        results = {one.name: Record(one).result() for one in (home / "trials").iterdir()}
        found.append({name: one.metrics["eval/fid"] for name, one in results.items() if one})
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    told = capsys.readouterr()
    assert "seed 2    finished: " in told.out
    assert "note: 3 trials train as one program" in told.err
    alone = write(tmp_path / "alone.yaml", toy | {"train": toy["train"] | {"gns": True}})
    assert main([alone, "--home", str(tmp_path / "h"), "--seeds", "0-1", "--ensemble"]) == 0
    assert (
        "2 of the trials step alone: it measures the noise of its gradient"
        in capsys.readouterr().err
    )
    assert main([file, "--home", str(tmp_path / "h"), "--ensemble"]) == 2
    assert "--ensemble: is of several trials: add --seeds 0-7" in capsys.readouterr().err


@pytest.mark.parametrize(
    "seeds", ["", "1-", "3-1", "1-2-3", "0,0", "0-100", "0-999999999999", str(2**63), "a"]
)
def test_seeds_are_a_list(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], seeds: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([write(tmp_path / "t.yaml", toy), "--seeds", seeds])
    assert ended.value.code == 2
    assert "write 0-7, or 0,3,5" in capsys.readouterr().err


def test_an_error_of_one_seed_is_told_and_several_have_no_directory_of_their_own(
    toy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "t.yaml", toy)
    assert main([file, "--seeds", "0-1", "--out", str(tmp_path / "o")]) == 2
    assert "--out: is the directory of one trial" in capsys.readouterr().err
    wild = {**toy, "optimizer": {"lr": 1000.0, "kind": "sgd", "grad_clip": None}}
    home = str(tmp_path / "h")
    assert main([write(tmp_path / "w.yaml", wild), "--home", home, "--seeds", "0-1"]) == 1
    assert "diverged: the training loss is" in capsys.readouterr().out
