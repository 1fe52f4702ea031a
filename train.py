"""One run: compose, check, fit, test, report.

    python train.py model=... data=... [KEY=VALUE ...]

The command line becomes one resolved config before anything heavy is imported; the config becomes a folder; the folder
is all that the run, its other processes and its continuation start from.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from compendium import cli
from compendium.errors import UserError, report


def main(arguments: list[str]) -> int:
    """Run what a command line asks for.

    Returns:
        Exit code: 0 done, 2 a mistake, 128 + N stopped by signal N.
    """
    if cli.wants_help(arguments):
        print(cli.help_screen())
        return 0
    if folder := cli.frozen(arguments):
        return execute(folder)
    if cli.wants_hydra(arguments):
        return hydra(arguments)
    return start(arguments)


def start(arguments: list[str]) -> int:
    """Compose and check one run, then do it. Under srun the first process composes and the others follow."""
    from compendium.compose import compose
    from compendium.run import Run

    meeting = cli.rendezvous(arguments)
    if meeting and cli.slurm_rank():
        return execute(cli.wait_for_folder(meeting))
    try:
        run = Run.plan(compose(arguments))
    except UserError:
        cli.tell(meeting, "")
        raise
    if meeting:
        run = run.afresh()
        run.freeze()
        cli.tell(meeting, str(run.folder))
    return execute(run)


def execute(run: object) -> int:
    """Hand over to the engine, the first to import Lightning."""
    from compendium.engine import execute
    from compendium.run import Run

    return execute(run if isinstance(run, Run) else Run.open(str(run)))


def hydra(arguments: list[str]) -> int:
    """Sweeps go to their launcher; completion and `--cfg` are Hydra's own."""
    if (offered := cli.completion(arguments)) is not None:
        print(offered)
        return 0
    from hydra import main as hydra_main

    from compendium import sweep
    from compendium.compose import expand_path, register

    if sweep.wanted(arguments):
        return sweep.launch(arguments)
    register()
    sys.argv[1:] = [part for argument in arguments for part in expand_path(argument)]
    hydra_main(version_base="1.3", config_path="conf", config_name="train")(lambda config: None)()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        if "debug=true" in sys.argv:
            raise
        sys.exit(report(error))
