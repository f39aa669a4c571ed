"""Any sequence of pushes, promotions, rollbacks, prunings, kills and external moves leaves a consistent registry.

A real embedded registry and real releases, which are built once. A kill is simulated: after it, every change
fails.
"""

import collections
import dataclasses
import inspect
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from mlflow import MlflowClient

from components.model_registry import ModelRegistry, Move, history
from components.registry_pusher import push as pusher
from components.registry_pusher import release, verification
from tests.components import pushers, releases

NAME, ALIAS, ENCODERS = "encoder", "champion", 4
CHANGES = pushers.CHANGES[MlflowClient]
# The number of changes before a kill; no action makes more than 14. None stands for no kill.
WAYS = ("automatic", "manual")
KILLS = st.one_of(st.none(), st.none(), st.integers(0, 14))


class Killed(BaseException):
    """The process was killed."""


class Fuse:
    """Allows a number of changes, and kills the process at the next one.

    Attributes:
        left: The number of changes that are still allowed; None for any number.
    """

    left: int | None = None

    def spend(self) -> None:
        if self.left is None:
            return
        if self.left <= 0:
            raise Killed
        self.left -= 1


fuse = Fuse()


def _guarded(original):
    def change(*arguments, **options):
        fuse.spend()
        return original(*arguments, **options)

    return change


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, empty_registry) -> dict:
    """An empty registry, candidates, and the release built from each."""
    root = tmp_path_factory.mktemp("states")
    candidates = [
        releases.candidate(releases.export_model(root / f"model-{number}", number), f"run-{number}", 0.5)
        for number in range(ENCODERS)
    ]
    built = [
        release.build(candidate, NAME, ALIAS, root / f"built-{number}") for number, candidate in enumerate(candidates)
    ]
    return {"registry": empty_registry, "candidates": candidates, "built": built}


@pytest.mark.parametrize(
    "examples", [pytest.param(12, marks=pytest.mark.long), pytest.param(100, marks=pytest.mark.soak)]
)
def test_any_sequence_leaves_a_whole_champion_that_the_last_move_names(examples, prepared, monkeypatch):
    """A hundred sequences, for `make soak`, meet more orders of the same moves and kills."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    by_identity = {built.identity: built for built in prepared["built"]}
    monkeypatch.setattr(release, "build", lambda candidate, *_: by_identity[candidate.identity])
    # Other tests compare embeddings; here the files' hashes decide whether a version is intact.
    monkeypatch.setattr(verification, "differences", lambda folder: [])
    for name in CHANGES:
        monkeypatch.setattr(MlflowClient, name, _guarded(getattr(MlflowClient, name)))

    counts: collections.Counter = collections.Counter()

    class Registry(RuleBasedStateMachine):
        @initialize()
        def begin(self):
            counts["examples"] += 1
            fuse.left = None
            self.root = tempfile.mkdtemp()
            shutil.copytree(prepared["registry"], f"{self.root}/registry")
            self.registry = ModelRegistry(f"{self.root}/registry")
            # The versions that the alias may point to: several after a kill; 0 stands for no alias.
            self.allowed = {0}

        def teardown(self):
            fuse.left = None
            if hasattr(self, "root"):
                shutil.rmtree(self.root)

        def versions(self) -> list[int]:
            return [version.version for version in self.registry.versions(NAME)]

        def champion(self) -> int:
            champion = self.registry.aliased(NAME, ALIAS)
            return champion.version if champion else 0

        def attempt(self, kill: int | None, action) -> object:
            """Returns the result of an action, or None if it was killed; then opens the registry as a new process."""
            counts[inspect.stack()[1].function] += 1
            fuse.left = kill
            try:
                return action()
            except Killed:
                counts["killed"] += 1
                return None
            finally:
                fuse.left = None
                self.registry = ModelRegistry(f"{self.root}/registry")

        @rule(
            number=st.integers(0, ENCODERS - 1),
            kill=KILLS,
            knows_champion=st.booleans(),
            approval=st.sampled_from(WAYS),
        )
        def push(self, number, kill, knows_champion, approval):
            before = self.champion()
            metrics = releases.metrics(0.5, before if knows_champion and before else None)
            plain = prepared["candidates"][number]
            registry = plain.settings.registry.model_copy(update={"approval": approval})
            settings = plain.settings.model_copy(update={"registry": registry})
            candidate = dataclasses.replace(plain, metrics=metrics, settings=settings)
            pushed = self.attempt(kill, lambda: pusher.push(self.registry, NAME, ALIAS, candidate))
            if approval == "manual":
                # Only a person makes it the champion.
                self.allowed = {before}
                if pushed and pushed.outcome == "challenger":
                    counts["challenged"] += 1
                    assert self.registry.aliased(NAME, "challenger").version == pushed.version.version
            elif pushed is None:
                self.allowed = {before, max([0, *self.versions()]), self.champion()} & {before, self.champion()}
            elif pushed.not_promoted:
                self.allowed = {before}
                assert before == 0 or not knows_champion
            else:
                self.allowed = {pushed.version.version}

        @precondition(lambda self: self.versions())
        @rule(data=st.data(), kill=KILLS)
        def promote(self, data, kill):
            version, before = data.draw(st.sampled_from(self.versions())), self.champion()
            move = Move(ALIAS, None, version, history.PROMOTE, "ada@box", "better")

            def move_and_end() -> None:
                self.registry.move_alias(NAME, move)
                self.registry.end_challenge(NAME, ALIAS)

            self.attempt(kill, move_and_end)
            self.allowed = {version} if kill is None else {before, version}

        @precondition(lambda self: self.champion())
        @rule(kill=KILLS)
        def rollback(self, kill):
            before, target = self.champion(), self.registry.rollback_target(NAME, ALIAS)
            if target is None:
                return
            assert target.version != before
            move = Move(ALIAS, None, target.version, history.ROLLBACK, "ada@box", "worse")
            self.attempt(kill, lambda: self.registry.move_alias(NAME, move))
            self.allowed = {target.version} if kill is None else {before, target.version}

        @precondition(lambda self: self.champion())
        @rule()
        def roll_back_to_the_end(self):
            """Repeated rollbacks come to an end."""
            counts["roll_back_to_the_end"] += 1
            seen = [self.champion()]
            while (target := self.registry.rollback_target(NAME, ALIAS)) is not None:
                move = Move(ALIAS, None, target.version, history.ROLLBACK, "ada@box", "worse")
                self.registry.move_alias(NAME, move)
                seen.append(target.version)
                assert len(seen) <= 40, seen
            self.allowed = {seen[-1]}

        @precondition(lambda self: self.versions())
        @rule(keep=st.integers(0, 2), kill=KILLS)
        def prune(self, keep, kill):
            target = self.registry.rollback_target(NAME, ALIAS)

            def delete() -> None:
                for version in self.registry.versions_to_prune(NAME, keep):
                    self.registry.delete(version)

            self.attempt(kill, delete)
            assert target is None or target.version in self.versions()

        @precondition(lambda self: self.versions())
        @rule(data=st.data())
        def move_externally(self, data):
            counts["move_externally"] += 1
            version = data.draw(st.sampled_from(self.versions()))
            self.registry.connection.client.set_registered_model_alias(NAME, ALIAS, str(version))
            self.allowed = {version}

        @precondition(lambda self: self.champion())
        @rule()
        def delete_the_alias_externally(self):
            counts["delete_the_alias_externally"] += 1
            self.registry.connection.client.delete_registered_model_alias(NAME, ALIAS)
            self.allowed = {0}

        @precondition(lambda self: self.champion())
        @rule()
        def lose_the_champions_files(self):
            counts["lose_the_champions_files"] += 1
            version = self.registry.version(NAME, self.champion())
            artifacts = self.registry.details(version).artifacts.removeprefix("file://")
            shutil.rmtree(artifacts, ignore_errors=True)
            number = next(i for i, built in enumerate(prepared["built"]) if built.identity == version.release)
            again = pusher.push(self.registry, NAME, ALIAS, prepared["candidates"][number])
            assert (again.version.version, again.new) == (version.version, False)

        @invariant()
        def the_champion_is_intact_and_is_what_the_last_move_says(self):
            if not hasattr(self, "registry"):
                return
            champion = self.champion()
            assert champion in self.allowed, (champion, self.allowed)
            if champion:
                with tempfile.TemporaryDirectory() as aside:
                    version = self.registry.version(NAME, champion)
                    assert self.registry.download_even_if_damaged(version, aside).damage == []
            identities = [version.release for version in self.registry.versions(NAME)]
            assert len(identities) == len(set(identities))

    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Registry,
        settings=settings(
            max_examples=examples,
            stateful_step_count=10,
            deadline=None,
            # The same sequences in every run of CI.
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
    print(dict(counts))
    # The sequences included every important action.
    actions = ("push", "challenged", "promote", "roll_back_to_the_end", "prune", "killed")
    assert min(counts[name] for name in actions) > 0, counts
