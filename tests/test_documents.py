"""The documents: each command that they show exists and is run by a test, and each message has a remedy."""

import functools
import re
from importlib import util

import catalogue
import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from pipeline import cli, config
from tests.documents import REPOSITORY, Command, all_commands
from trainer import __main__ as trainer_cli
from trainer.errors import UserError

COMMANDS = all_commands()
# Other programs, with the reason why no test runs what the documents do with them.
OTHERS = {
    "docker": "no container registry can be reached",
    "gcloud": "it needs an account of Google Cloud",
    "java": "Beam's job server for Flink is in none of the package registries",
    "kubectl": "it needs a cluster; `make lint` builds and validates the manifests",
    "mlflow": "tests/mlflow_server.py starts the server with a database of the test's own",
    "git": "it shows a difference to a person",
    "grep": "tests/pipeline/kubeflow/test_pods.py runs it without kubectl",
    "curl": "tests/components/test_loading.py sends the same request",
    "cd": "it is a part of the shell",
    "echo": "it is a part of the shell",
    "mkdir": "it is a part of the shell",
    "source": "it is a part of the shell",
    "export": "it is a part of the shell",
    ".venv/bin/pre-commit": "it is not installed by this project",
    ".venv/bin/pytest": "it runs the tests",
}
# Options that show the help, or write to the user's shell, as soon as they are parsed.
ACT_WHEN_PARSED = {"--help", "--install-completion"}
# Commands of nnclr and their options that no test runs, with the reason.
NOT_RUN: dict[str, str] = {}


# Building the tree of all commands takes longer than parsing one.
tree = functools.cache(typer.main.get_command)


def parsed(app: typer.Typer, command: Command, arguments: list[str]) -> tuple[str, dict]:
    """Parses arguments as the command line does, and returns the names of the subcommands and the parameters.

    Raises:
        TyperException: If a command or an option is unknown, or a value is not allowed.
    """
    current, names, context = tree(app), [], None
    rest = [argument for argument in arguments if argument not in ACT_WHEN_PARSED]
    while isinstance(current, TyperGroup) and rest:
        context = current.make_context(current.name, rest, parent=context)
        name, current, rest = current.resolve_command(context, [*context._protected_args, *context.args])
        names.append(name)
    if isinstance(current, TyperGroup):
        return " ".join(names), {}
    try:
        return " ".join(names), current.make_context(current.name, rest, parent=context).params
    except TyperException as error:
        # In a sentence, a command may lack its arguments.
        if not (command.inline and type(error).__name__ == "MissingParameter"):
            raise
        return " ".join(names), {}


def of_nnclr() -> list[Command]:
    # In a sentence, `nnclr COMMAND` stands for any command.
    return [command for command in COMMANDS if command.words[0] == "nnclr" and not command.words[1].isupper()]


def test_the_command_line_understands_each_command():
    mistakes = []
    for command in of_nnclr():
        try:
            _, parameters = parsed(cli.app, command, list(command.words[1:]))
            if parameters.get("overrides"):
                config.load(parameters.get("preset"), None, list(parameters["overrides"]))
        except (TyperException, UserError) as error:
            mistakes.append(f"{command}: {getattr(error, 'message', error)}")
    assert mistakes == []


@functools.cache
def words_of_tests() -> str:
    files = [*(REPOSITORY / "tests").rglob("*.py"), REPOSITORY / "pipeline/local/schedule/simulation.py"]
    # tests/test_tutorial.py runs all commands of the tutorial.
    files = [file for file in files if file.name != "test_documents.py"] + [REPOSITORY / "docs" / "tutorial.md"]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def test_each_command_and_each_option_is_run_by_a_test():
    untested = set()
    for command in of_nnclr():
        name, _ = parsed(cli.app, command, list(command.words[1:]))
        options = {word.partition("=")[0] for word in command.words if word.startswith("-")} - ACT_WHEN_PARSED
        for part in (name, *options):
            spelled = r"[\"']?,? [\"']?".join(map(re.escape, part.split()))
            if part not in NOT_RUN and not re.search(rf"[\"' ]{spelled}[\"'= ]", words_of_tests()):
                untested.add(part)
    assert untested == set()


def test_each_other_command_exists_or_is_listed_with_a_reason():
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    mistakes = []
    for command in COMMANDS:
        match command.words:
            case ("nnclr", *_):
                continue
            case ("make", *arguments):
                known = all(word in targets or "=" in word for word in arguments)
            case ("python" | ".venv/bin/python", "-m", "trainer", *arguments):
                known = parsed(trainer_cli.app, command, arguments)[0] == ""
            case ("python" | ".venv/bin/python", "-m", module, *_):
                known = util.find_spec(module) is not None
            case ("python", script, *_) if script.endswith(".py"):
                known = f"Save this as `{script}`" in (REPOSITORY / command.document).read_text(encoding="utf-8")
            case (program, *_):
                known = program in OTHERS
        if not known:
            mistakes.append(str(command))
    assert mistakes == []
    assert OTHERS.keys() <= {command.words[0] for command in COMMANDS}


def test_each_message_says_what_to_do_or_has_a_remedy():
    messages, remedies = catalogue.messages(), catalogue.remedies()
    assert len(messages) > 200
    assert [message for message in messages if not message.advises and message.text not in remedies] == []
    needed = {message.text for message in messages if not message.advises}
    assert remedies.keys() - needed == set(), "remedies for messages that say it themselves or no longer exist"


def test_the_catalogue_finds_messages_of_every_kind():
    found = {(message.text, message.exit_code) for message in catalogue.messages()}
    assert ("There is no preset …; there are: ….", 2) in found
    # A text that a function of the module returns, an alternative, and an error that is returned instead of raised.
    assert any(text.startswith("… pictures cannot be decoded, … are allowed") and code == 3 for text, code in found)
    assert ("The registry has no models yet: run the pipeline first.", 2) in found
    assert ("A Beam worker failed: …: …", 1) in found
    # A part of another message.
    assert ("its pixels have more than 16 bits: convert it to 8 or 16 bits", None) in found
