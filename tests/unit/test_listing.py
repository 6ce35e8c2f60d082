"""What users name as images: manifests, tar shards and URLs list the pictures that a folder would, in little memory, in parts that are always the same."""

from __future__ import annotations

import io
import pickle
import tarfile
import threading
import tracemalloc
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from bnexport import datasets
from bnexport.datasets.listing import Lister
from bnexport.errors import BnexportError, InputError, MachineError
from bnexport.results.preprocessing import Preprocessing
from bnexport.system.cache import Cache


def png(level: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((2, 3), level, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures of two classes, each of its own grey."""
    for nth, name in enumerate(["a/0.png", "a/1.png", "a/2.png", "b/3.png", "b/4.png", "b/5.png"]):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(40 * nth))
    return tmp_path / "set"


def told(listing: datasets.Listing) -> list[tuple[str, str, int]]:
    """Each picture's name, label and grey."""
    return [(p.name, p.label, int(datasets.pixels(p.read(), Preprocessing((2, 3)))[0, 0, 0])) for p in listing]


WHOLE = [(f"{'a' if nth < 3 else 'b'}/{nth}.png", "a" if nth < 3 else "b", 40 * nth) for nth in range(6)]


def tar(path: Path, samples: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in samples:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def served(folder: Path) -> Iterator[str]:
    """The folder on a web server."""

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=folder.parent)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_folder_is_what_it_was(folder: Path) -> None:
    """Names sorted, the subfolder as the class."""
    assert told(datasets.find(folder)) == WHOLE
    assert datasets.find(folder).classes == ("a", "b")


@pytest.mark.parametrize("head", ["", "path,label\n", "label,file,more\n"])
def test_a_manifest_names_columns_or_has_them_in_order(folder: Path, head: str) -> None:
    """CSV with and without a first line, in any order where it names them."""
    line = "{1},{0},x" if head.startswith("label") else "{0},{1}"
    rows = "\n".join(line.format(name, label) for name, label, _ in WHOLE)
    (folder / "list.csv").write_text(head + rows + "\n")
    assert told(datasets.find(folder / "list.csv")) == WHOLE


def test_parquet_and_tsv_are_manifests_too(folder: Path) -> None:
    """Dictionary columns and class numbers; paths that are absolute stay so."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    names = pyarrow.array([str(folder / name) for name, _, _ in WHOLE])
    labels = pyarrow.array([label for _, label, _ in WHOLE]).dictionary_encode()
    parquet.write_table(pyarrow.table({"Image": names, "label": labels}), folder.parent / "list.parquet")
    found = told(datasets.find(folder.parent / "list.parquet"))
    assert [(label, grey) for _, label, grey in found] == [(label, grey) for _, label, grey in WHOLE]
    numbers = pyarrow.array([7 if label == "a" else 11 for _, label, _ in WHOLE])
    parquet.write_table(pyarrow.table({"path": names, "label": numbers}), folder.parent / "list.parquet")
    assert datasets.find(folder.parent / "list.parquet").classes == ()  # class numbers, not names
    (folder / "list.tsv").write_text("".join(f"{name}\t{label}\n" for name, label, _ in WHOLE))
    assert told(datasets.find(folder / "list.tsv")) == WHOLE


def test_shards_are_read_from_their_place(folder: Path) -> None:
    """Pictures with their class, across shards by braces, by a glob and by their folder; a picture inside costs its own bytes only."""
    place = folder.parent / "shards"
    place.mkdir()
    for shard in range(3):
        samples = []
        for nth in (2 * shard, 2 * shard + 1):
            samples += [
                (f"{nth:04}.cls", str(nth // 3).encode()),
                (f"{nth:04}.png", png(40 * nth)),
                (f"{nth:04}.json", b"{}"),
            ]
        tar(place / f"train-{shard:02}.tar", samples)
    wanted = [(f"train-{nth // 2:02}.tar/{nth:04}.png", str(nth // 3), 40 * nth) for nth in range(6)]
    for source in (
        place / "train-{00..02}.tar",
        place / "*.tar",
        place,
        f"{place.as_uri()}/*.tar",
        f"filecache::{place.as_uri()}/*.tar",
    ):
        found = datasets.find(str(source))
        assert told(found) == wanted
        assert found.classes == ()
    alone = [(name.split("/")[1], label, grey) for name, label, grey in wanted]
    assert told(datasets.find(place / "train-01.tar")) == alone[2:4]
    assert told(pickle.loads(pickle.dumps(datasets.find(place)[1:4]))) == wanted[1:4]  # noqa: S301 - our own


def test_urls_are_places(folder: Path, served: str) -> None:
    """A manifest, a shard, a list and one picture from a web server; a folder from a file system that lists."""
    (folder / "list.csv").write_text("".join(f"{name},{label}\n" for name, label, _ in WHOLE))
    assert told(datasets.find(f"{served}/set/list.csv")) == WHOLE
    tar(folder / "one.tar", [("x.png", png(7))])
    assert told(datasets.find(f"{served}/set/one.tar")) == [("x.png", "", 7)]
    assert [grey for _, _, grey in told(datasets.find([f"{served}/set/b/5.png", str(folder / "a/1.png")]))] == [200, 40]
    memory = fsspec.filesystem("memory")
    for name, _, grey in WHOLE:
        memory.pipe(f"/set/{name}", png(grey))
    for url in ("memory://set", "memory:///set/", folder.as_uri(), f"filecache::{folder.as_uri()}"):
        assert told(datasets.find(url)) == WHOLE
    batches = list(datasets.Reader(datasets.find("memory://set"), Preprocessing((2, 3)), batch_size=4))
    assert [len(batch.names) for batch in batches] == [3, 3]


def test_a_url_that_fails_is_one_entry(served: str, folder: Path) -> None:
    """What cannot be fetched is unreadable with its reason; the others are read."""
    reader = datasets.Reader(datasets.find([f"{served}/set/none.png", str(folder / "a/1.png")]), Preprocessing((2, 3)))
    assert sum(len(batch.names) for batch in reader) == 1
    assert "none.png" in reader.unreadable[0].name
    assert reader.unreadable[0].reason


def test_a_million_lines_take_little_memory(tmp_path: Path) -> None:
    """Names once, and a few numbers for each: below 60 bytes more than the names themselves (a list of objects takes 400)."""
    count = 100_000
    (tmp_path / "list.csv").write_text(
        "".join(f"some/folder/picture-{nth:07}.jpg,c{nth % 100}\n" for nth in range(count))
    )
    tracemalloc.start()
    listing = datasets.find(tmp_path / "list.csv")
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(listing) == count
    assert size / count < 31 + 60
    assert listing[99_999].label == "c99"


@given(st.integers(1, 200), st.integers(1, 20))
def test_parts_are_the_whole(total: int, count: int) -> None:
    """Every picture is in exactly one part, each time the same, and parts differ by one picture at most."""
    lister = Lister()
    for nth in range(total):
        lister.add(f"{nth}.png")
    whole = lister.listing()
    parts = [[p.name for p in whole.shard(nth, count)] for nth in range(count)]
    assert sorted(name for part in parts for name in part) == sorted(p.name for p in whole)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_fingerprint_sees_what_changed(folder: Path) -> None:
    """Content, names and labels count, and so does the tar a picture is in; what did not change is not read again."""
    store = Cache(folder.parent / "cache")

    def now() -> str:
        return datasets.fingerprint(str(folder), store.remember_hash)

    first = now()
    assert now() == first
    (folder / "a/0.png").write_bytes(png(1))
    second = now()
    assert second != first
    (folder / "a/0.png").rename(folder / "b/0.png")
    assert now() not in (first, second)


WRONG = {
    "no table": ("list.csv", b"a,b,c\nd,e,f\n", "not a table of images"),
    "another width": ("list.csv", b"a.png,x\nb.png\n", "not a table of images"),
    "no text": ("list.csv", b"\xff\xfe\x00\x01", "cannot read"),
    "no Parquet": ("list.parquet", b"PAR1 no", "cannot read"),
    "empty": ("list.csv", b"", "contains no images"),
    "no tar": ("x.tar", b"no tar at all" * 100, "not a tar file"),
    "compressed": ("x.tar.gz", b"\x1f\x8b", "is compressed"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_list_says_so(case: str, tmp_path: Path) -> None:
    """One sentence that names the file."""
    name, content, reason = WRONG[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=reason):
        datasets.find(tmp_path / name)


def test_a_tar_that_lies_is_refused_or_read(folder: Path) -> None:
    """Cut, links, sizes beyond the end, and members named like paths elsewhere: unreadable entries or one sentence, and nothing outside is read."""
    path = tar(folder / "x.tar", [("a.png", png(1)), ("b.png", png(2))])
    path.write_bytes(path.read_bytes()[:1800])
    with pytest.raises(BnexportError):
        list(datasets.Reader(datasets.find(path)[1:], Preprocessing((2, 3))))
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("c.png")
        link.type, link.linkname = tarfile.SYMTYPE, str(folder / "a/1.png")
        archive.addfile(link)
        member = tarfile.TarInfo("../../d.png")
        member.size = len(png(9))
        archive.addfile(member, io.BytesIO(png(9)))
    assert told(datasets.find(path)) == [("../../d.png", "", 9)]


@pytest.mark.parametrize("url", ["nothing://x/y", "memory://not-there", "http://127.0.0.1:9/x.csv"])
def test_urls_that_lead_nowhere_say_so(url: str) -> None:
    """An unknown protocol, an empty place and a server that does not answer: one sentence each."""
    with pytest.raises((InputError, MachineError)) as said:
        datasets.find(url)
    assert "\n" not in str(said.value)


def test_a_file_has_one_label(tmp_path: Path) -> None:
    """A line that is there twice says nothing new; two labels for one file are refused, whichever was meant."""
    Image.new("L", (2, 3)).save(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("a.png,disc\na.png,disc\n")
    assert [picture.label for picture in datasets.find(tmp_path)] == ["disc"]
    (tmp_path / "labels.csv").write_text("a.png,disc\na.png,cross\n")
    with pytest.raises(InputError, match=r"gives the file a.png two labels: found disc and cross"):
        datasets.find(tmp_path)
