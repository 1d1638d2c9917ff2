"""Threads of one process that share a session or a project folder lose no request."""

import copy
import pickle
import threading
import warnings
from contextlib import nullcontext, suppress

import pytest

from expunge import Session
from expunge.data.past_requests import requests_of
from expunge.errors import ExpungeError
from expunge.projects import project as project_module
from expunge.projects import session as session_module
from expunge.projects.project import Project
from expunge.projects.turns import Turn
from expunge.projects.words import project_words
from expunge.training.registry import find


def session_of(classifier):
    data = (classifier.by_class.forget.data, classifier.by_class.test.data)
    return Session(classifier.model, data, classifier.task, find("salun")(epochs=1, lr=0.03, batch_size=64))


def in_threads(*calls):
    """Call functions at the same time, and return their results or errors in order."""
    results, begin = [None] * len(calls), threading.Barrier(len(calls))

    def work(at, call):
        begin.wait()
        try:
            results[at] = call()
        except Exception as error:
            results[at] = error

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return results


def meeting(monkeypatch, module):
    """Let the runs of two threads wait for each other at their start. Returns which of them met, and how many ran at once."""
    barrier, own, running, most = threading.Barrier(2), module.answer, [], []

    def answer(*arguments, **named):
        running.append(1)
        most.append(len(running))
        with suppress(threading.BrokenBarrierError):
            barrier.wait(0.3)
        try:
            return own(*arguments, **named)
        finally:
            running.pop()

    monkeypatch.setattr(module, "answer", answer)
    return most


def test_two_threads_share_a_session(classifier, monkeypatch):
    """Before, both began with the same model, and the second one replaced the model of the first."""
    session = session_of(classifier)
    most = meeting(monkeypatch, session_module)
    found = in_threads(lambda: session.forget(ids=range(5)), lambda: session.forget(ids=range(5, 10)))
    assert not [f for f in found if isinstance(f, Exception)]
    assert most == [1, 1] and len(session.answers) == 2
    assert {i for past in session.requests for i in past.ids} == {str(k) for k in range(10)}
    assert session.requests == requests_of(session.model)
    assert [len(answer.earlier) for answer in session.answers] == [0, 1]


def test_without_turns_a_request_is_lost(classifier, monkeypatch):
    """The negative control of the test above."""
    session = session_of(classifier)
    session._turn = nullcontext()
    most = meeting(monkeypatch, session_module)
    in_threads(lambda: session.forget(ids=range(5)), lambda: session.forget(ids=range(5, 10)))
    assert sorted(most) == [1, 2] and len(session.answers) == 2 and len(session.requests) == 1


def test_runs_of_two_sessions_draw_the_same_numbers_as_alone(classifier):
    """The random generators belong to the process: a second run in another thread would move them."""
    alone = session_of(classifier).forget(ids=range(5))
    one, two = in_threads(
        lambda: session_of(classifier).forget(ids=range(5)),
        lambda: session_of(classifier).forget(ids=range(40, 50)),
    )
    assert one.record.model["hash_after"] == alone.record.model["hash_after"]
    assert two.record.model["hash_after"] != alone.record.model["hash_after"]


def test_a_request_inside_a_request_of_the_same_session_is_refused(classifier):
    session = session_of(classifier)
    session.setting = session_module.replace(
        session.setting, on_row=lambda row: session.forget(ids=range(5, 10))
    )
    with pytest.raises(ExpungeError, match="comes from inside it"):
        session.forget(ids=range(5))
    assert session.answers == [] and session.requests == ()
    session.setting = session_module.replace(session.setting, on_row=None)
    assert session.forget(ids=range(5)) is session.answers[0]


def test_a_thread_that_sets_the_model_waits_for_the_request(classifier, monkeypatch):
    session, other = session_of(classifier), copy.deepcopy(classifier.model)
    started, own = threading.Event(), session_module.answer

    def answer(*arguments):
        setter.start()
        started.wait(0.3)
        assert session.model is before
        return own(*arguments)

    def replace_model():
        session.model = other
        started.set()

    before, setter = session.model, threading.Thread(target=replace_model)
    monkeypatch.setattr(session_module, "answer", answer)
    session.forget(ids=range(5))
    monkeypatch.undo()
    setter.join(10)
    assert session.model is other
    with pytest.raises(ExpungeError, match="the model is a str"):
        session.model = "model"
    # the model that came back from elsewhere has the same parameters and lacks the requests
    bare = copy.deepcopy(classifier.model)
    bare.load_state_dict(session.answers[0].model.state_dict())
    session.model = bare
    with (
        pytest.warns(RuntimeWarning, match="has not answered 1 of 1 earlier"),
        pytest.warns(RuntimeWarning, match="they are unlearned again"),
    ):
        again = session.forget(ids=range(5))
    assert again.outcomes and len(session.answers) == 2


def test_a_copied_session_has_a_turn_of_its_own(classifier):
    session = session_of(classifier)
    session.forget(ids=range(5))
    other = copy.deepcopy(session)
    other.forget(ids=range(5, 10))
    assert (len(session.requests), len(other.requests)) == (1, 2)
    assert isinstance(pickle.loads(pickle.dumps(session._turn)), Turn)


def test_threads_respect_the_lock_of_a_project(project, monkeypatch):
    """One object in two threads: one request is refused, as if another process had the folder. This takes three runs."""
    most = meeting(monkeypatch, project_module)
    found = in_threads(lambda: project.forget(ids=["p1"]), lambda: project.forget(ids=["p2"]))
    (refused,) = (f for f in found if isinstance(f, Exception))
    assert "another command works in" in str(refused)
    assert most == [1] and len(project.status().requests) == 1
    # with seconds to wait, two objects lose none
    one, two = Project(project.path, wait=60), Project(project.path, wait=60)
    found = in_threads(lambda: one.forget(ids=["p11"]), lambda: two.forget(ids=["p12"]))
    assert not [f for f in found if isinstance(f, Exception)]
    requests = project.status().requests
    assert len(requests) == 3 and {r.run for r in requests} == {1, 2, 3}
    assert max(most) == 1 and len(requests_of(project.model)) == 3


def test_warnings_of_other_threads_keep_their_words():
    """Python has one `warnings.showwarning`. Blocks of two threads that overlap leave the first one in place."""
    shown, before = [], warnings.showwarning
    text = "add --validation-from test"

    def show(message, *others, **named):
        shown.append(str(message))

    warnings.showwarning = show
    try:
        inside, leave = threading.Event(), threading.Event()

        def block():
            with project_words():
                inside.set()
                leave.wait(10)

        other = threading.Thread(target=block)
        with project_words():
            other.start()
            inside.wait(10)
            warnings.showwarning(UserWarning(text), UserWarning, "", 0)
        # the other thread's block is open, and not that of this one
        warnings.showwarning(UserWarning(text), UserWarning, "", 0)
        leave.set()
        other.join(10)
        assert warnings.showwarning is show
    finally:
        warnings.showwarning = before
    assert shown == ['set validation_from = "test" in expunge.toml', text]
