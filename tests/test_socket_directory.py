"""The directory of the socket is removed, renamed, or replaced while the inference process runs: one supervisor and one
process stay or come back, and calls get their answers."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import psycopg
import pytest

from helpers.pictures import encode, picture
from helpers.processes import eventually, one_of_each, servers, supervisors
from helpers.session import session_of

pytestmark = pytest.mark.same_everywhere

IMAGE = encode(picture(1, (64, 64)))
EMBED = "SELECT vector_dims(susx.embed_image(%s))"


@pytest.fixture
def cluster(own_cluster):
    own_cluster.start()
    with session_of(own_cluster) as session:
        assert session.one(EMBED, IMAGE) == 512
    assert one_of_each(own_cluster.data_dir)
    yield own_cluster
    for left in own_cluster.data_dir.glob("susx.aside-*"):
        left.unlink() if left.is_file() or left.is_symlink() else shutil.rmtree(left)


def directory(cluster) -> Path:
    return cluster.data_dir / "susx"


def works(cluster) -> bool:
    """In a new session, as one that is connected already goes on with the process that it knows."""
    with session_of(cluster) as session:
        try:
            return session.one(EMBED, IMAGE) == 512
        except psycopg.Error as error:
            assert error.sqlstate in ("57P03", "08006"), error
            return False


def one_is_left(cluster) -> None:
    assert eventually(lambda: works(cluster))
    assert eventually(lambda: one_of_each(cluster.data_dir))
    # Whoever was asked for meanwhile has ended.
    for _ in range(10):
        time.sleep(0.2)
        assert len(supervisors(cluster.data_dir)) == 1 and len(servers(cluster.data_dir)) <= 1
    assert one_of_each(cluster.data_dir)
    assert (directory(cluster).stat().st_mode & 0o777, (directory(cluster) / "socket").stat().st_mode & 0o777) == (0o700, 0o600)


def file_instead(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("nothing of susx's")


def link_instead(path: Path, target: str) -> None:
    path.unlink() if path.is_symlink() else shutil.rmtree(path)
    path.symlink_to(target)


def foreign_directory_instead(path: Path) -> None:
    """As whoever runs the tests makes it, root perhaps."""
    shutil.rmtree(path)
    path.mkdir(mode=0o755)
    (path / "note").write_text("keep me")


def move(path: Path) -> None:
    path.rename(path.with_name(f"susx.moved-{time.monotonic_ns()}"))


def socket_into_directory(path: Path) -> None:
    (path / "socket").unlink()
    (path / "socket" / "deep").mkdir(parents=True)


DAMAGES = {
    "removed": shutil.rmtree,
    "renamed": move,
    "a file": file_instead,
    "a link to nothing": lambda path: link_instead(path, "/nowhere/at/all"),
    "a link to itself": lambda path: link_instead(path, "susx"),
    "a link to somebody's directory": lambda path: link_instead(path, "/"),
    "another directory": foreign_directory_instead,
    "closed": lambda path: path.chmod(0),
    "open to all": lambda path: path.chmod(0o777),
    "socket removed": lambda path: (path / "socket").unlink(),
    "socket renamed": lambda path: (path / "socket").rename(path / "elsewhere"),
    "socket closed": lambda path: (path / "socket").chmod(0),
    "socket a directory": socket_into_directory,
    "lock removed": lambda path: [file.unlink() for file in path.glob("lock")],
    "everything removed": lambda path: [file.unlink() for file in path.iterdir() if not file.is_dir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged(cluster, damage):
    path = directory(cluster)
    supervisor = supervisors(cluster.data_dir)
    DAMAGES[damage](path)
    one_is_left(cluster)
    assert supervisors(cluster.data_dir) == supervisor
    for left in cluster.data_dir.glob("susx.moved-*"):
        shutil.rmtree(left)


def test_nothing_of_others_is_lost(cluster):
    """What is in the way gets another name."""
    foreign_directory_instead(directory(cluster))
    one_is_left(cluster)
    (aside,) = cluster.data_dir.glob("susx.aside-*")
    assert (aside / "note").read_text() == "keep me"
    file_instead(directory(cluster))
    one_is_left(cluster)
    assert len(list(cluster.data_dir.glob("susx.aside-*"))) == 2


def test_removed_again_and_again(cluster):
    """While sessions ask for it all the time, and for supervisors where they find none."""
    supervisor = supervisors(cluster.data_dir)
    for _ in range(6):
        shutil.rmtree(directory(cluster), ignore_errors=True)
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            works(cluster)
            assert len(servers(cluster.data_dir)) <= 1
    one_is_left(cluster)
    assert supervisors(cluster.data_dir) == supervisor


def test_a_link_to_a_directory_of_ours(cluster):
    """An administrator may want the socket elsewhere."""
    other = cluster.directory / "elsewhere"
    owner = cluster.data_dir.stat()
    other.mkdir(mode=0o700)
    os.chown(other, owner.st_uid, owner.st_gid)
    link_instead(directory(cluster), str(other))
    one_is_left(cluster)
    assert directory(cluster).is_symlink() and (other / "socket").is_socket()
    link = directory(cluster)
    link.unlink()
    one_is_left(cluster)


def test_a_session_that_is_connected_goes_on(cluster):
    with session_of(cluster) as session:
        assert session.one(EMBED, IMAGE) == 512
        shutil.rmtree(directory(cluster))
        for _ in range(20):
            time.sleep(0.2)
            assert session.one(EMBED, IMAGE) == 512
    one_is_left(cluster)


def test_a_restart_takes_it_over(cluster):
    shutil.rmtree(directory(cluster))
    cluster.restart()
    one_is_left(cluster)
    cluster.stop()
    assert servers(cluster.data_dir) == [] and not (directory(cluster) / "socket").exists()
    file_instead(directory(cluster))
    cluster.start()
    one_is_left(cluster)


def test_the_process_at_work_as_seen_meanwhile(cluster):
    directory(cluster).chmod(0)
    with session_of(cluster) as session:
        session.rows("SELECT * FROM susx.stat_server")
    one_is_left(cluster)
