"""The stream of PyPI's `kubernetes`, against a relay. Run by `clients_python.rs` with a kubeconfig and
names of cases; what goes wrong is an exception."""

import hashlib
import json
import sys

from kubernetes import client, config
from kubernetes.client.rest import ApiException
from kubernetes.stream import stream

STATUS = 3
RESIZE = 4
MUCH = 4 * 1024 * 1024
# No session of these takes nearly so long.
DEADLINE = 60

EXEC = {"container": "main", "stdin": False, "stdout": True, "stderr": True, "tty": False}


class Case:
    def __init__(self, kubeconfig, user):
        self.api = client.CoreV1Api(config.new_client_from_config(kubeconfig, user))

    def text(self, *command, pod="shell", **more):
        """All that it prints, at once."""
        call = self.api.connect_get_namespaced_pod_exec
        return stream(call, pod, "demo", command=list(command), **{**EXEC, **more})

    def session(self, *command, pod="shell", **more):
        """A session that goes on."""
        return self.text(*command, pod=pod, **more, _preload_content=False)


def same(seen, wanted):
    assert seen == wanted, f"{seen!r} in place of {wanted!r}"


def read_until(session, wanted):
    seen = ""
    while wanted not in seen:
        assert session.is_open(), f"ended after {seen!r}"
        seen += session.read_stdout(timeout=DEADLINE)
    return seen


def streams_stay_apart_and_the_exit_code_is_told(case):
    for code in (0, 3, 137):
        session = case.session("sh", "-c", f"echo out; echo err >&2; exit {code}")
        session.run_forever(timeout=DEADLINE)
        same(session.read_stdout(), "out\n")
        same(session.read_stderr(), "err\n")
        same(session.returncode, code)
    same(case.text("sh", "-c", "echo '世界 🌍'"), "世界 🌍\n")


def megabytes_come_out_unharmed(case):
    bits = case.text("sh", "-c", f"yes 0123456789 | head -c {MUCH}", binary=True)
    wanted = (b"0123456789\n" * (MUCH // 11 + 1))[:MUCH]
    same(hashlib.sha256(bits).hexdigest(), hashlib.sha256(wanted).hexdigest())


def megabytes_of_stdin_arrive(case):
    bits = hashlib.shake_256(b"stdin").digest(MUCH)
    session = case.session("sh", "-c", f"head -c {MUCH} | sha256sum", stdin=True)
    for at in range(0, MUCH, 65536):
        session.write_stdin(bits[at : at + 65536])
    session.run_forever(timeout=DEADLINE)
    same(session.read_stdout().split()[0], hashlib.sha256(bits).hexdigest())
    same(session.returncode, 0)


def the_end_of_stdin_can_be_told(case):
    session = case.session("sh", "-c", "cat; exit 5", stdin=True)
    same(session.subprotocol, "v5.channel.k8s.io")
    session.write_stdin("first\n")
    session.write_stdin("世界\n")
    session.close_channel(0)
    session.run_forever(timeout=DEADLINE)
    same(session.read_stdout(), "first\n世界\n")
    same(session.returncode, 5)


def a_terminal_has_its_size(case):
    session = case.session("bash", "--norc", stdin=True, stderr=False, tty=True)
    read_until(session, "# ")
    session.write_channel(RESIZE, json.dumps({"Height": 31, "Width": 91}))
    session.write_stdin("until [ \"$(stty size)\" = '31 91' ]; do :; done; echo $(stty size):$((6*7))\n")
    read_until(session, "31 91:42")
    session.write_stdin("exit 7\n")
    session.run_forever(timeout=DEADLINE)
    same(session.returncode, 7)


def a_pod_is_read_for_its_containers(case):
    pod = case.api.read_namespaced_pod("shell", "demo")
    same([it.name for it in pod.spec.containers], ["main", "side"])
    same(pod.status.phase, "Running")
    try:
        case.api.read_namespaced_pod("ghost", "demo")
    except ApiException as error:
        same(error.status, 404)
        same(json.loads(error.body)["message"], 'pods "ghost" not found')
    else:
        raise AssertionError("there is a pod ghost")


# This client says of itself that it is a page: it sends an `Origin`. So it is told inside.
def refused(case, wanted, **more):
    session = case.session("true", **more)
    session.run_forever(timeout=DEADLINE)
    same(session.read_stdout(), "")
    status = json.loads(session.read_channel(STATUS))
    same(status["status"], "Failure")
    assert status["message"].startswith(wanted), status
    return status


def what_is_refused_is_refused_in_the_servers_words(case):
    same(refused(case, 'pods "ghost" not found', pod="ghost")["code"], 404)
    words = "container nope is not valid for pod shell"
    same(refused(case, words, container="nope")["code"], 400)
    session = case.session("no-such-program")
    session.run_forever(timeout=DEADLINE)
    status = json.loads(session.read_channel(STATUS))
    same(status["reason"], "InternalError")
    assert "executable file not found in $PATH" in status["message"], status


def who_may_not_is_told_so(case):
    words = 'pods "shell" is forbidden: User "nobody" cannot'
    same(refused(case, words)["code"], 403)


def a_wrong_token_is_told_so(case):
    same(refused(case, "Unauthorized")["code"], 401)


if __name__ == "__main__":
    _, kubeconfig, user, *names = sys.argv
    for name in names:
        globals()[name](Case(kubeconfig, user))
