"""The command line: every verb is a thin call into one function of the top floor.

Conventions: `--json` prints one JSON document on stdout and nothing else there; what a user can
put right is one line on stderr and exit code 2; a run whose network missed a budget, and a
certificate that does not hold, exit with 1; Ctrl-C is one line and exit code 130. Heavy
imports stay inside the verbs, so that `--help` and mistyped arguments answer at once.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpqdeploy import __version__
from mpqdeploy.core import UserError
from mpqdeploy.ui import Ui

if TYPE_CHECKING:
    from mpqdeploy.config import Config

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Mixed-precision networks that meet a latency budget measured on the device.",
)

_INTERRUPTED = 130

ConfigFile = Annotated[Path, typer.Argument(help="Configuration, YAML.", metavar="CONFIG")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Replace a key: --set a.b=value.", metavar="KEY=V")
]
Fresh = Annotated[bool, typer.Option(help="Start the run folder over.")]
DryRun = Annotated[bool, typer.Option(help="Print the plan and do nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
ModelFile = Annotated[Path, typer.Argument(help="A QONNX file.", metavar="MODEL.onnx")]
BundleFolder = Annotated[Path, typer.Argument(help="A compiled bundle.", metavar="DIR")]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"mpqdeploy {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def run(
    config: ConfigFile,
    overrides: Overrides = None,
    fresh: Fresh = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Profile, search, fine-tune, compile, measure, refit and ship. Run again, it continues."""
    _pipeline(config, overrides, None, fresh, dry_run, as_json, quiet)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("mpqdeploy.yaml"),
    data: Annotated[str, typer.Option(help="Data set.")] = "digits",
    model: Annotated[str | None, typer.Option(help="Model; the data set's usual one.")] = None,
) -> None:
    """Write a configuration to start from, every key with its default and meaning."""
    from mpqdeploy.init import write_config

    write_config(path, data=data, model=model)
    typer.echo(f"wrote {path}; now: mpqdeploy run {path}")


@app.command()
def profile(
    config: ConfigFile,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure every layer of the model at every candidate precision on the target."""
    if not dry_run and _show_profile(config, overrides, Ui(as_json=as_json, quiet=quiet)):
        return
    _pipeline(config, overrides, "profile", False, dry_run, as_json, quiet)


@app.command()
def search(
    config: ConfigFile,
    overrides: Overrides = None,
    fresh: Fresh = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Profile, train where asked, and search a policy inside the budgets."""
    _pipeline(config, overrides, "search", fresh, dry_run, as_json, quiet)


@app.command()
def export(
    model: ModelFile,
    out: Annotated[Path, typer.Option(help="The standard ONNX file to write.")],
    as_json: AsJson = False,
) -> None:
    """Turn a QONNX file into standard ONNX, weights packed at their own width."""
    from mpqdeploy.verbs.export import export_model

    export_model(model, out, Ui(as_json=as_json))


@app.command("compile")
def compile_(
    model: ModelFile,
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write.")],
    target: Annotated[str, typer.Option(help="Machine to compile for.")] = "host",
    batch: Annotated[int, typer.Option(min=1, help="Size of a batch the file leaves open.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads that run it.")] = 1,
    tune: Annotated[bool, typer.Option("--tune", help="Time every layer's kernels first.")] = False,
    store: Annotated[str | None, typer.Option(help="URL of the record store.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace whatever DIR holds.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compile any QONNX file to a bundle that runs on the target."""
    from mpqdeploy.verbs.compile import compile_model

    ui = Ui(as_json=as_json, quiet=quiet)
    compile_model(
        model,
        target,
        out,
        ui,
        force=force,
        batch=batch,
        threads=threads,
        tuning=tune,
        store=store,
    )


@app.command()
def verify(
    model: ModelFile,
    bundle: BundleFolder,
    samples: Annotated[int, typer.Option(min=1, help="Inputs to compare on.")] = 16,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare a bundle with its QONNX file, layer by layer on identical inputs."""
    from mpqdeploy.verbs.verify import verify_bundle

    if not verify_bundle(model, bundle, samples, Ui(as_json=as_json, quiet=quiet)):
        raise typer.Exit(1)


@app.command()
def measure(
    bundle: BundleFolder,
    samples: Annotated[int, typer.Option(min=5, help="Latencies to take.")] = 30,
    threads: Annotated[int | None, typer.Option(min=1, help="What it was compiled for.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Time a bundle on this machine."""
    from mpqdeploy.verbs.measure import measure_bundle

    measure_bundle(bundle, samples, threads, Ui(as_json=as_json, quiet=quiet))


@app.command()
def detect(
    bundle: BundleFolder,
    image: Annotated[Path, typer.Argument(help="A JPEG or PNG.", metavar="IMAGE")],
    out: Annotated[Path | None, typer.Option(help="PNG to draw the boxes into.")] = None,
    score: Annotated[float, typer.Option(min=0, max=1, help="Least score shown.")] = 0.3,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run a detector's bundle on an image, and draw what it finds."""
    from mpqdeploy.verbs.detect import detect_objects

    detect_objects(bundle, image, out, score, Ui(as_json=as_json, quiet=quiet))


@app.command()
def report(
    config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False, quiet: Quiet = False
) -> None:
    """Write a run's report again, from what its folder holds."""
    _pipeline(config, overrides, "report", False, False, as_json, quiet)


@app.command()
def targets(as_json: AsJson = False) -> None:
    """List the targets, and the kernels that each has for each precision."""
    from mpqdeploy.verbs.machine import list_targets

    list_targets(Ui(as_json=as_json))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what this machine has: CPU features, linker, package versions."""
    from mpqdeploy.verbs.machine import doctor as diagnose

    if not diagnose(Ui(as_json=as_json)):
        raise typer.Exit(1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: runs a verb and ends the process with its exit code."""
    sys.exit(_exit_code(list(sys.argv[1:] if arguments is None else arguments)))


def _exit_code(arguments: list[str]) -> int:
    # Brevitas says so at every import, and nothing here uses it.
    warnings.filterwarnings("ignore", message="fast_hadamard_transform")
    try:
        code = app(arguments, prog_name="mpqdeploy", standalone_mode=False)
    except UserError as error:
        return _fail(str(error))
    except typer.TyperException as error:
        return _fail(f"{error.format_message()} See: mpqdeploy --help")
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except BrokenPipeError:
        # Whoever read stdout has gone; keep Python from complaining when it flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    if code == _INTERRUPTED:  # typer returns it for a KeyboardInterrupt that it has caught
        print("mpqdeploy: interrupted; run the same command again to continue", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _fail(message: str) -> int:
    print(f"mpqdeploy: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _show_profile(path: Path, overrides: Sequence[str] | None, ui: Ui) -> bool:
    """Show a profile that is done, before anything heavy is loaded; False where it is not."""
    from mpqdeploy.config import Config
    from mpqdeploy.steps.profiled import finished_profile, print_table

    table = finished_profile(Config.load(path, overrides or ()))
    if table is None:
        return False
    ui.note("profile: done before")
    print_table(ui, table)
    return True


def _pipeline(
    path: Path,
    overrides: Sequence[str] | None,
    until: str | None,
    fresh: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    from mpqdeploy.config import Config

    config: Config = Config.load(path, overrides or ())

    from mpqdeploy.pipeline import run as run_pipeline

    ui = Ui(as_json=as_json, quiet=quiet)
    summary = run_pipeline(config, fresh=fresh, dry_run=dry_run, until=until, ui=ui)
    if summary is not None and not summary.holds:
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
