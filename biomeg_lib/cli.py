"""The `biomeg` command. Every mistake a user can mend ends as one line on stderr and exit code 1."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    from biomeg_lib.errors import BiomegError

    options = _parser().parse_args(arguments)
    try:
        options.command(options)
        sys.stdout.flush()
    except BiomegError as error:
        print(f"biomeg: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `biomeg fetch --list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit would fail to flush, and say so
        return 1
    except OSError as error:  # no room, no permission: the system's own words, and which file
        print(f"biomeg: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("biomeg: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="biomeg", description="The BioMegatron study, one stage at a time.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function, help: str, *, params: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(command=function)
        if params:
            sub.add_argument("params", type=Path, help="params file, for example params/smoke.yaml")
        return sub

    fetch = command("fetch", _fetch, "find a data source, or download and verify it", params=False)
    fetch.add_argument("names", nargs="*", metavar="NAME")
    fetch.add_argument("--list", action="store_true", help="all names, sizes, licences and where they are now")
    new = command("new-study", _new_study, "make a folder for a study of one's own text", params=False)
    new.add_argument("folder", type=Path, metavar="DIR", help="a new folder; its name becomes the profile's")
    new.add_argument("--corpus", nargs="+", default=[], metavar="FILE", help="text or .jsonl, or quoted patterns")
    new.add_argument("--benchmark", nargs="+", default=[], metavar="FILE", help="IOB: train [[devel] test]")
    command("models", _models, "the named models with their exact parameter counts", params=False)
    command("check", _check, "validate a params file")
    plan = command("plan", _plan, "memory and time of runs on a machine that need not be here", params=False)
    plan.add_argument("target", metavar="TARGET", help="a params file, or a model of `biomeg models`")
    plan.add_argument("--machine", default="h100", metavar="NAME", help="h100 (default), a100, v100 or cpu")
    plan.add_argument(
        "--gpus", type=int, metavar="N", help="for all runs; without it what `parallel` says, else a node"
    )
    plan.add_argument("--memory", type=float, metavar="GB", help="of a GPU")
    plan.add_argument("--peak", type=float, metavar="TFLOPS", help="of a GPU")
    plan.add_argument("--bandwidth", metavar="GB/S[,GB/S]", help="of a GPU within a node, and between nodes")
    plan.add_argument("--utilisation", type=float, default=0.35, metavar="F", help="share of the peak (0.35)")
    plan.add_argument("--tokens", type=int, metavar="N", help="of a model's run (8,192,000,000)")
    plan.add_argument("--batch", type=int, metavar="N", help="sequences of its step, over all GPUs (1,024)")
    plan.add_argument("--length", type=int, metavar="N", help="tokens of its sequences (512)")
    corpus = command("corpus", _corpus, "read a corpus, or go on with it")
    corpus.add_argument("name")
    corpus.add_argument("--part", metavar="N", help="only its N-th file, or that called N: a job of many for a cluster")
    corpus.add_argument("--keep-parts", action="store_true", help="so that the next time only new files are read")
    command("vocabulary", _vocabulary, "take or learn a vocabulary").add_argument("name")
    shards = command("shards", _shards, "tokenise a corpus with a vocabulary")
    shards.add_argument("corpus")
    shards.add_argument("vocabulary")
    command("pretrain", _pretrain, "do a pre-training run, or go on with it").add_argument("name")
    command("finetune", _finetune, "do a fine-tuning job, or go on with it").add_argument("job")
    predict = command("predict", _predict, "apply a fine-tuned run to texts or questions of one's own", params=False)
    predict.add_argument("run", type=Path, help="its folder: outputs/<profile>/runs/finetune/<name>")
    predict.add_argument("--input", type=Path, required=True, help="a text file or JSON lines")
    predict.add_argument(
        "--format", default="jsonl", help="jsonl, brat, pubtator, tsv; for answers jsonl, squad, bioasq"
    )
    predict.add_argument("--output", default="-", help="a file, for brat a folder; stdout without it")
    score = command("score", _score, "score predictions as the official tools do", params=False)
    score.add_argument("gold", type=Path, help="a benchmark's file; of ChemProt's three tables any one")
    score.add_argument("predictions", type=Path)
    score.add_argument(
        "--task", choices=("ner", "relation", "pairs", "squad", "bioasq"), help="told by GOLD without it"
    )
    for sub in (predict, score):
        sub.add_argument("--skip-bad", action="store_true", help="leave out and count what is not right")
    inspect = command("inspect", _inspect, "say what a checkpoint is, of any format", params=False)
    inspect.add_argument("path", help="a file, a folder, or the name of a published checkpoint")
    taken = command("import", _import, "read a checkpoint of any format and keep it as ours", params=False)
    taken.add_argument("path", nargs="?", help="a file, a folder, or the name of a published checkpoint")
    taken.add_argument("--to", type=Path, metavar="DIR", help="outputs/checkpoints/<name> without it")
    taken.add_argument("--vocabulary", type=Path, metavar="FILE", help="where it has none: vocab.txt or a *.model")
    taken.add_argument("--list", action="store_true", help="the published checkpoints that have a name here")
    export = command("export", _export, "write a run or a checkpoint for other tools", params=False)
    export.add_argument("run", type=Path, help="outputs/<profile>/runs/<kind>/<name>, or what `biomeg import` made")
    export.add_argument("--to", type=Path, required=True, metavar="DIR")
    export.add_argument("--format", choices=("huggingface", "megatron"), default="huggingface")
    export.add_argument("--tensor-parallel", type=int, default=1, metavar="N", help="shards, for megatron (1)")
    execute = command("execute", _execute, "execute a notebook of the study headlessly")
    execute.add_argument("notebook", help="its name, for example vocab")
    execute.add_argument("output", type=Path, help="the executed notebook")
    execute.add_argument("-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    render = command("render", _render, "make the HTML report of the executed notebooks")
    render.add_argument("notebooks", type=Path, nargs="+", help="executed notebooks, the index last")
    command("reference", _reference, "keep a finished study's results without weights and text of data sets")
    bench = command("bench", _bench, "measure speed and memory beside peers", params=False)
    bench.add_argument("--cases", metavar="A,B", help="names, `curves` among them; all without it")
    bench.add_argument("--rounds", type=int, default=7, help="measured rounds of each case (7)")
    bench.add_argument("--quick", action="store_true", help="tiny shapes: shows that all works, and nothing else")
    return parser


def _fetch(options: argparse.Namespace) -> None:
    from biomeg_lib import sources
    from biomeg_lib.errors import BiomegError

    if options.list == bool(options.names):
        raise BiomegError("fetch: expected --list, or the names of sources")
    if options.list:
        for row in sources.list_sources():
            size = f"{row.bytes / 1e6:.1f} MB" if row.bytes else ""
            print(f"{row.name:28} {size:>9}  {row.where:8}  {row.licence[:60]:60}  {row.url}")
    for name in options.names:
        for path in sources.fetch(name):
            print(path)


def _new_study(options: argparse.Namespace) -> None:
    from biomeg_lib.new_study import new_study

    print(f"The params file: {new_study(options.folder, options.corpus, options.benchmark)}")
    if not (options.corpus and options.benchmark):
        print(f"The data: as {options.folder / 'data' / 'README.md'} says, or name your own files in the params file")
    print(f"Then: cd {options.folder} && make check && make")


def _models(options: argparse.Namespace) -> None:
    from biomeg_lib.model import PRESETS, config_for, count_parameters

    print("Parameters with heads, pooler and tied decoder, for the BERT vocabularies padded to a multiple of 128.")
    columns = f"{'name':6} {'layers':>6} {'hidden':>6} {'heads':>5} {'norm':>5}"
    print(f"{columns} {'cased 29,056':>15} {'uncased 30,592':>15}  from")
    for name, preset in PRESETS.items():
        counts = [count_parameters(config_for(name, size)) for size in (29056, 30592)]
        shape = f"{name:6} {preset.layers:6} {preset.hidden:6} {preset.heads:5} {preset.norm:>5}"
        print(f"{shape} {counts[0]:15,} {counts[1]:15,}  {preset.source}")


def _check(options: argparse.Namespace) -> None:
    from biomeg_lib.check import check
    from biomeg_lib.study import load

    study = load(options.params)
    check(study, options.params)
    runs = sum(len(study.runs(job)) for job in study.jobs())
    print(f"{options.params}: {len(study.pretraining)} pre-training and {runs} fine-tuning runs")


def _plan(options: argparse.Namespace) -> None:
    from biomeg_lib.plan.command import machine_of, planned

    machine = machine_of(options.machine, options.gpus, options.memory, options.peak, options.bandwidth)
    sizes = (options.tokens, options.batch, options.length)
    for line in planned(options.target, machine, options.utilisation, *sizes, as_they_say=options.gpus is None):
        print(line)


def _corpus(options: argparse.Namespace) -> None:
    from biomeg_lib.prepare import prepare_corpus, prepare_corpus_part
    from biomeg_lib.study import load

    study = load(options.params)
    if options.part is not None:
        print(f"{options.name}: read {prepare_corpus_part(study, options.name, options.part)}")
        return
    counts = prepare_corpus(study, options.name, options.keep_parts)
    dropped = ", ".join(f"{count:,} {kind}" for kind, count in counts["dropped"].items())
    print(f"{options.name}: {counts['documents']:,} documents, {counts['words']:,} words, dropped {dropped}")


def _vocabulary(options: argparse.Namespace) -> None:
    from biomeg_lib.prepare import prepare_vocabulary
    from biomeg_lib.study import load

    print(f"{options.name}: {prepare_vocabulary(load(options.params), options.name).size:,} pieces")


def _shards(options: argparse.Namespace) -> None:
    from biomeg_lib.prepare import prepare_shards
    from biomeg_lib.study import load

    counts = prepare_shards(load(options.params), options.corpus, options.vocabulary)
    tokens = ", ".join(f"{counts[split]['tokens']:,} tokens in {split}" for split in ("train", "heldout"))
    print(f"{options.corpus} with {options.vocabulary}: {tokens}")


def _pretrain(options: argparse.Namespace) -> None:
    from biomeg_lib.study import load
    from biomeg_lib.training.pretrain import pretrain

    metrics = pretrain(load(options.params), options.name)
    print(f"{options.name}: held-out masked-LM loss {metrics['heldout_mlm']:.3f} after {metrics['tokens']:,} tokens")


def _finetune(options: argparse.Namespace) -> None:
    from biomeg_lib.report.tables import HEADS
    from biomeg_lib.study import load
    from biomeg_lib.tasks.jobs import run_job

    study = load(options.params)
    job = study.job(options.job)
    for name, result in zip(study.runs(job), run_job(study, job), strict=True):
        figures = {key: value for key, value in result["test"].items() if isinstance(value, float) and key in HEADS}
        print(f"{name}: test " + ", ".join(f"{HEADS[key]} {100 * value:.1f}" for key, value in figures.items()))


def _predict(options: argparse.Namespace) -> None:
    from biomeg_lib.predict.command import predict

    for note in predict(options.run, options.input, options.output, options.format, options.skip_bad):
        print(f"biomeg: {note}", file=sys.stderr)


def _score(options: argparse.Namespace) -> None:
    from biomeg_lib.predict.score import score

    report = score(options.gold, options.predictions, options.task, options.skip_bad)
    for line in report.lines:
        print(line)
    for note in report.notes:
        print(f"biomeg: {note}", file=sys.stderr)


def _inspect(options: argparse.Namespace) -> None:
    from biomeg_lib.checkpoints.command import inspect

    for line in inspect(options.path):
        print(line)


def _import(options: argparse.Namespace) -> None:
    from biomeg_lib.checkpoints.command import described, import_checkpoint, listed
    from biomeg_lib.errors import BiomegError

    if options.list == bool(options.path):
        raise BiomegError("import: expected --list, or a file, folder or name")
    if options.list:
        for line in listed():
            print(line)
        return
    folder, checkpoint = import_checkpoint(options.path, options.to, options.vocabulary)
    for line in described(checkpoint):
        print(line)
    print(f"kept in       {folder}")


def _export(options: argparse.Namespace) -> None:
    from biomeg_lib.checkpoints.command import export_run

    print(export_run(options.run, options.to, options.format, options.tensor_parallel))


def _execute(options: argparse.Namespace) -> None:
    from biomeg_lib.report.execute import execute
    from biomeg_lib.study import load

    execute(load(options.params), options.notebook, options.output, dict(options.parameters))


def _render(options: argparse.Namespace) -> None:
    from biomeg_lib.report.execute import render
    from biomeg_lib.study import load

    render(load(options.params), options.notebooks)


def _reference(options: argparse.Namespace) -> None:
    from biomeg_lib.report.reference import keep
    from biomeg_lib.study import load

    print(keep(load(options.params)))


def _bench(options: argparse.Namespace) -> None:
    from biomeg_lib.bench.command import bench

    print(f"The page: {bench(options.cases.split(',') if options.cases else None, options.rounds, options.quick)}")
