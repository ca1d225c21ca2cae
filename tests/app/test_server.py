"""The explorer's answers: the numbers of ``foveal.explain``, sessions that do not mix, errors of one sentence."""

import http.client
import io
import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.app.guard import refusal
from foveal.app.seen import view_of
from foveal.app.session import SessionEnded, Sessions
from foveal.explain import (
    EffectiveReceptiveField,
    Layer,
    cam_layer,
    class_score,
    depth_profile,
    mixed_weights,
    watch_attention,
    watch_mixers,
    watch_scores,
)
from foveal.tasks.classification.preprocessing import Preprocessing
from support.explorer import noise, png

NEXT, XNET = "transnext_atto", "transxnet_atto"


def tensor(explorer, name, image):
    return explorer.networks[name].subject.photograph(image, "a").tensor


def test_attention_of_a_point_is_that_of_its_token_and_heads(explorer, client):
    image = noise(0)
    client.open(image)
    # The centre crop of 70 x 90 resized to 73 x 94 is 64 x 64: its pixel (20, 47) is at (3 + ..., 13 + ...) * 70 / 73.
    top, left, height, width = client.ask("attention", network=NEXT)["view"]
    point = [top + 20.5 * height / 64, left + 47.5 * width / 64]
    found = client.ask("attention", network=NEXT, point=point, stage=1, block=0, heads=[1])
    maps = watch_attention(explorer.networks[NEXT].subject.body, tensor(explorer, NEXT, image)).of(1, 0, (3, 6))
    assert found["token"] == [3, 6]  # stride 8
    np.testing.assert_array_equal(found["window"], maps.window_weights[1])
    np.testing.assert_array_equal(found["maps"]["mixed"]["values"], mixed_weights(maps)[1].astype(np.float32))
    assert found["share"] == pytest.approx(float(maps.foveal_share[1]), rel=1e-6)
    everything = client.ask("attention", network=NEXT, point=point, stage=1, block=0)
    assert everything["chosen"] == list(range(maps.heads))
    assert everything["maps"]["mixed"]["values"].sum() == pytest.approx(1, abs=1e-5)
    assert everything["maps"]["mixed"]["rows"][:3] == [0, 4, 12]  # token i is centred on pixel 8 i


def test_a_view_is_where_the_network_looks():
    """A bright square of the image is found where the view says, within a pixel."""
    pixels = np.zeros((300, 500, 3), np.uint8)
    pixels[100:120, 300:320] = 255
    fit = Preprocessing(size=(224, 224))
    view = view_of(fit, (300, 500))
    seen = fit.transform()(Image.fromarray(pixels))[0]
    rows, columns = torch.nonzero(seen > 0.5 * seen.max(), as_tuple=True)
    row = view.top + (rows.float().mean() + 0.5) * view.height / 224
    column = view.left + (columns.float().mean() + 0.5) * view.width / 224
    assert (float(row), float(column)) == pytest.approx((110, 310), abs=1.5)


def test_depth_and_mixers_are_those_of_the_functions(explorer, client):
    image = noise(1)
    client.open(image)
    profile = depth_profile(watch_attention(explorer.networks[NEXT].subject.body, tensor(explorer, NEXT, image)), 16)
    blocks = client.ask("depth", network=NEXT)["blocks"]
    assert [b["share"] for b in blocks] == pytest.approx([float(p.foveal_share.mean()) for p in profile], rel=1e-6)
    mixers = watch_mixers(explorer.networks[XNET].subject.body, tensor(explorer, XNET, image))
    found = client.ask("branches", network=XNET, stage=2, block=0)
    kernels = mixers.kernels(2, 0).kernels
    np.testing.assert_array_equal(found["kernels"], kernels[found["channels"]])
    assert found["channels"][0] == int(np.square(kernels).sum((1, 2)).argmax())
    np.testing.assert_array_equal(found["maps"]["OSRA"]["values"], mixers.energies(2, 0).distant)
    attention = client.ask("attention", network=XNET, stage=2, block=0)
    expected = mixers.attention(2, 0).weights.mean(0)
    np.testing.assert_array_equal(attention["maps"]["attention"]["values"], expected)


def test_classes_and_their_evidence_are_those_of_the_functions(explorer, client):
    image = noise(2)
    client.open(image)
    net, x = explorer.networks[NEXT].subject.model, tensor(explorer, NEXT, image)[None]
    with torch.no_grad():
        best = net(x)[0].softmax(0).topk(10)
    items = client.ask("answers", network=NEXT)["items"]
    assert [item["index"] for item in items] == best.indices.tolist()
    assert [item["value"] for item in items] == pytest.approx(best.values.tolist(), rel=1e-4)
    heat = client.ask("evidence", network=NEXT, index=items[1]["index"], evidence_stage=2, method="hires")["heat"]
    scores = watch_scores(net, x, Layer(cam_layer(net, 2)))
    expected = scores.map(class_score(items[1]["index"]), "hires").on_image((64, 64), 16)
    np.testing.assert_allclose(heat, expected, rtol=1e-4, atol=1e-7)


def test_receptive_fields_arrive_stage_by_stage(explorer, client):
    image = noise(3)
    client.open(image)
    field = EffectiveReceptiveField(explorer.networks[XNET].subject.body)
    field.add(tensor(explorer, XNET, image)[None])
    for _ in range(2):  # computed, then kept
        _, content = client.post("fields", json.dumps({"network": XNET}).encode())
        lines = [json.loads(line) for line in content.splitlines()]
        assert [(line["layer"], line["done"], line["total"]) for line in lines] == [
            (f"stage {number}", number, 4) for number in (1, 2, 3, 4)
        ]
    import base64

    last = np.frombuffer(base64.b64decode(lines[3]["field"]["float32"]), "<f4").reshape(64, 64)
    expected = field.result().contributions[3]
    np.testing.assert_allclose(last, expected, atol=1e-5 * expected.max())


@pytest.mark.parametrize("what", ["attention", "depth", "evidence", "erf"])
def test_downloads_are_pictures_and_their_numbers(client, what):
    client.open(noise(4))
    status, content = client.post("download", json.dumps({"network": NEXT, "what": what}).encode())
    assert status == 200
    assert min(Image.open(io.BytesIO(content)).size) > 300
    _, content = client.post("download", json.dumps({"network": NEXT, "what": what, "form": "npz"}).encode())
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        assert len(arrays.files) > 0
        if what == "attention":
            np.testing.assert_allclose(arrays["mixed_weights"].sum((1, 2)), 1, rtol=1e-5)


@pytest.mark.parametrize("what", ["attention", "depth", "evidence"])
def test_the_name_of_an_image_is_drawn_as_it_is(client, what):
    """matplotlib would read what follows a dollar sign as a formula, and fail at this one."""
    client.open(noise(16), "a$b^{$.png")
    status, content = client.post("download", json.dumps({"network": NEXT, "what": what}).encode())
    assert status == 200, content


def test_two_sessions_do_not_mix(explorer):
    first, second = explorer.client(), explorer.client()
    assert first.session != second.session
    first.open(noise(5), "first.png")
    assert "no image yet" in second.ask("attention", network=NEXT)["error"]
    second.open(noise(6, 90, 70), "second.png")
    pictures = [
        one.post("picture", json.dumps({"network": NEXT, "what": "photo"}).encode())[1] for one in (first, second)
    ]
    subject = explorer.networks[NEXT].subject
    for content, image in zip(pictures, (noise(5), noise(6, 90, 70)), strict=True):
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(content))), subject.photograph(image, "a").pixels)


def test_a_session_is_gone_after_it_is_closed(explorer):
    one = explorer.client()
    one.open(noise(7))
    held = explorer.sessions.get(one.session)
    assert one.post("close", one.session.encode())[0] == 204
    status, content = one.post("attention", json.dumps({"network": NEXT}).encode())
    assert (status, "load the page again" in json.loads(content)["error"]) == (410, True)
    assert held.image is None


def test_an_idle_session_ends():
    now = 0.0
    sessions = Sessions(idle=10, clock=lambda: now)
    token = sessions.create().token
    now = 9.0
    sessions.get(token)
    now = 18.0
    sessions.get(token)
    now = 29.0
    with pytest.raises(SessionEnded):
        sessions.get(token)
    assert len(sessions) == 0


def test_another_image_replaces_all_that_was_seen_of_the_last(client):
    client.open(noise(8))
    first = client.ask("attention", network=NEXT)["window"]
    client.open(noise(9))
    assert np.abs(first - client.ask("attention", network=NEXT)["window"]).max() > 0


@pytest.mark.parametrize(
    ("content", "name", "status", "part"),
    [
        (b"no image at all", "notes.txt", 400, "notes.txt is not a readable image"),
        (b"", "empty.png", 400, "empty.png is not a readable image"),
        (png(noise(0))[:2000], "half.png", 400, "half.png is not a readable image"),
        (png(Image.new("L", (8000, 5001))), "huge.png", 413, "8000 x 5001 pixels"),
        (png(Image.new("L", (30000, 6000))), "bomb.png", 413, "40 megapixels"),
        (png(Image.new("L", (3000, 2))), "line.png", 400, "too narrow"),
        (bytes(32 * 2**20 + 1), "heavy.tif", 413, "more than 32 MB"),
    ],
)
def test_a_broken_or_huge_image_gets_one_sentence_and_changes_nothing(client, content, name, status, part):
    client.open(noise(10))
    before = client.ask("attention", network=NEXT)["window"]
    answered, said = client.post("image", content, X_Foveal_Name=name)
    sentence = json.loads(said)["error"]
    assert answered == status
    assert part in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    np.testing.assert_array_equal(client.ask("attention", network=NEXT)["window"], before)


@pytest.mark.parametrize(
    ("what", "question", "part"),
    [
        ("attention", {"network": "vit"}, "no network 'vit'"),
        ("attention", {"network": NEXT, "stage": 7}, "stages[7]"),
        ("attention", {"network": NEXT, "point": "here"}, "load the page again"),
        ("attention", {"network": NEXT, "point": [float("inf"), 0]}, "load the page again"),
        ("attention", {"network": NEXT, "point": {"a": 1}}, "load the page again"),
        ("attention", {"network": NEXT, "heads": {"a": 1}}, "load the page again"),
        ("branches", {"network": NEXT}, "choose a TransXNet"),
        ("depth", {"network": XNET}, "choose a TransNeXt"),
        ("evidence", {"network": NEXT, "index": 1000}, "no class 1000"),
        ("evidence", {"network": NEXT, "method": "magic"}, "'magic'"),
        ("picture", {"network": NEXT, "what": "labels"}, "choose a segmenter"),
        ("download", {"network": NEXT, "what": "all"}, "no picture 'all'"),
        ("download", {"network": NEXT, "what": "attention", "form": "exe"}, "no format 'exe'"),
        ("sample", {"name": "../secret"}, "no sample"),
    ],
)
def test_a_wrong_question_gets_one_sentence(client, what, question, part):
    client.open(noise(11))
    status, content = client.post(what, json.dumps(question).encode())
    assert (status, part in json.loads(content)["error"]) == (400, True), content


@pytest.mark.parametrize(
    "body", [b"[" * 30_000, b'{"a":' * 10_000, b"\xff\xfe", b"", b"null", b"[]", b"1" * 5000, b"x" * 2**17]
)
def test_a_body_that_is_no_question_gets_one_sentence(client, body):
    status, content = client.post("attention", body)
    assert (status, "load the page again" in json.loads(content)["error"]) == (400, True), content


def test_a_bug_is_one_sentence_with_the_headers_of_every_answer(explorer, client, monkeypatch):
    client.open(noise(14))
    monkeypatch.setattr("foveal.app.look.depth", lambda _: 1 / 0)
    body = json.dumps({"network": NEXT}).encode()
    status, headers, content = request(explorer.address, "/api/depth", body, X_Foveal_Session=client.session)
    assert (status, json.loads(content)["error"]) == (500, "The server could not answer: its terminal says why.")
    assert headers["cache-control"] == "no-store"


def test_a_bug_within_a_stream_is_its_last_line(client, monkeypatch):
    client.open(noise(15))
    monkeypatch.setattr("foveal.app.look.field_shown", lambda *_: 1 / 0)
    with pytest.raises(http.client.IncompleteRead) as broken:
        client.post("fields", json.dumps({"network": NEXT}).encode())
    assert json.loads(broken.value.partial)["error"] == "The server could not answer: its terminal says why."


def test_an_address_with_nothing_is_one_sentence(explorer):
    status, _, content = request(explorer.address, "/api/everything")
    assert (status, "foveal app" in json.loads(content)["error"]) == (404, True)


def test_a_point_outside_the_view_means_its_nearest_token(client):
    client.open(noise(12))
    assert client.ask("attention", network=NEXT, point=[-1e6, 1e9])["token"] == [0, 3]
    assert client.ask("attention", network=NEXT, point=[-1e308, 1e308])["token"] == [0, 3]


def request(address, path, body=None, **headers):
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=20)
    connection.request(
        "GET" if path == "/" else "POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()}
    )
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def test_the_server_answers_its_own_page_only(explorer):
    own = urlsplit(explorer.address).netloc
    assert request(explorer.address, "/")[0] == 200
    assert request(explorer.address, "/", Host="evil.example:7860")[0] == 403
    assert request(explorer.address, "/api/session", Host=own, Origin=f"http://{own}")[0] == 200
    assert request(explorer.address, "/api/session", Host=own, Origin="http://evil.example")[0] == 403
    assert request(explorer.address, "/api/session", Host=own, Origin="null")[0] == 403
    assert request(explorer.address, "/api/session", Host=own, Origin="http://[")[0] == 403
    policy = request(explorer.address, "/")[1]["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    ("host", "bound", "taken"),
    [
        ("localhost:7860", "127.0.0.1", True),
        ("[::1]:7860", "::1", True),
        ("192.168.1.5:7860", "127.0.0.1", False),
        ("192.168.1.5:7860", "0.0.0.0", True),
        ("evil.example", "0.0.0.0", False),
        ("localhost.evil.example", "127.0.0.1", False),
        ("[", "127.0.0.1", False),
        (None, "127.0.0.1", False),
    ],
)
def test_a_host_is_taken_only_if_it_is_this_machine(host, bound, taken):
    assert (refusal(host, None, bound) is None) is taken


def test_nothing_is_written_to_disk(explorer):
    """Under an audit hook, which sees every file that is opened for writing, spooled ones included."""
    written, watching = [], True

    def watch(event, args):
        if watching and event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
            written.append(str(args[0]))
        if watching and event == "open" and args[1] is None and args[2] & (os.O_WRONLY | os.O_RDWR):
            written.append(str(args[0]))

    sys.addaudithook(watch)  # it cannot be removed
    try:
        one = explorer.client()
        one.open(noise(13, 1200, 1500))  # 5 MB
        for what in ("attention", "depth", "answers", "evidence", "download"):
            status, _ = one.post(what, json.dumps({"network": NEXT, "what": "attention"}).encode())
            assert status == 200
        one.post("close", one.session.encode())
    finally:
        watching = False
    assert [path for path in written if "matplotlib" not in path and "/dev/" not in path] == []


def test_colours_of_the_page_are_matplotlibs():
    import matplotlib

    page = Path(__file__).parents[2] / "src/foveal/app/page"
    table = "".join(
        line.split('"')[1] for line in (page / "colours.js").read_text().splitlines() if line.startswith('  "')
    )
    rgb = (matplotlib.colormaps["viridis"](range(256))[:, :3] * 255).round().astype(np.uint8)
    assert bytes.fromhex(table) == rgb.tobytes()
