"""Decoding a live stream, and going on in mid-stream elsewhere. Pictures from outside."""

import pickle
import struct
from fractions import Fraction
from itertools import islice

import av
import cv2
import numpy as np
import pytest

from agents.face_recognition import stream as stream_module
from agents.face_recognition.camera import KEY_EVERY, Camera, Packet
from agents.face_recognition.stream import MAX_PACKET_BYTES, Stream
from agents.pictures import MAX_PIXELS, open_picture
from ledger.errors import Misuse


@pytest.fixture(scope="module")
def packets() -> list[Packet]:
    return list(islice(Camera().packets(), 2 * KEY_EVERY + 2))


def moved(stream: Stream) -> Stream:
    again: Stream = pickle.loads(pickle.dumps(stream, protocol=5))  # noqa: S301 - our own bytes
    return again


def encoded(**options: str) -> list[bytes]:
    """Thirty frames by an encoder that is set otherwise than the camera's."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.framerate = 160, 160, "yuv420p", Fraction(25)
    encoder.options = {"preset": "veryfast", "threads": "1", **options}
    grain = np.random.default_rng(1).integers(0, 255, (190, 190, 3), np.uint8)
    frames = [np.ascontiguousarray(grain[n : n + 160, n : n + 160]) for n in range(30)]
    coded = [packet for f in frames for packet in encoder.encode(av.VideoFrame.from_ndarray(f, format="bgr24"))]
    return [bytes(packet) for packet in (*coded, *encoder.encode())]


@pytest.mark.parametrize("hop_after", [{1}, {5, 6, 7}, {KEY_EVERY - 1}, {KEY_EVERY}, {KEY_EVERY + 1, 20}])
def test_no_frame_is_lost_or_altered_by_a_move(packets: list[Packet], hop_after: set[int]) -> None:
    stays, goes = Stream(), Stream()
    for number, packet in enumerate(packets, start=1):
        assert np.array_equal(stays.feed(packet.data), goes.feed(packet.data)), f"frame {number}"
        if number in hop_after:
            goes = moved(goes)
    assert stays.frames == goes.frames == len(packets)


def test_without_the_kept_packets_a_move_does_alter_frames(packets: list[Packet]) -> None:
    stream = Stream()
    for packet in packets[:5]:
        stream.feed(packet.data)
    stream._kept = stream._kept[:1]  # the broken twin: only the key frame travels
    stays = Stream()
    pictures = [stays.feed(packet.data) for packet in packets[:6]]
    assert not np.array_equal(moved(stream).feed(packets[5].data), pictures[5])


def test_what_travels_of_a_stream_is_small(packets: list[Packet]) -> None:
    stream = Stream()
    for packet in packets:
        stream.feed(packet.data)
    last_key = max(packet.pts for packet in packets if packet.key)
    assert len(pickle.dumps(stream)) < sum(len(packet.data) for packet in packets[last_key:]) + 1000


def test_bad_packets_are_refused_and_the_next_key_frame_heals(packets: list[Packet]) -> None:
    key, second, key_again = packets[0].data, packets[1].data, packets[KEY_EVERY].data
    large = next(packet.data for packet in packets[1:] if not packet.key and len(packet.data) > 500)
    start = key.index(b"\0\0\1\x65")
    for bad, words in {
        b"": "0 bytes",
        bytes(MAX_PACKET_BYTES + 1): "is not taken",
        b"no video at all": "hold 0",
        key + second: "hold 2",
        key[start - 1 :]: "without its parameter sets",
        key[: len(key) // 2]: "cannot be decoded",
        large[: len(large) // 2]: "cannot be decoded",
    }.items():
        stream = Stream()
        stream.feed(key)
        with pytest.raises(Misuse, match=words):
            stream.feed(bad)
        assert stream.feed(key_again).shape == (320, 320), words
        assert moved(stream).frames == 2


def test_after_a_broken_packet_no_picture_is_built_on_it(packets: list[Packet]) -> None:
    stream = Stream()
    stream.feed(packets[0].data)
    with pytest.raises(Misuse, match="cannot be decoded"):
        stream.feed(packets[0].data[: len(packets[0].data) // 2])
    with pytest.raises(Misuse, match="send a key frame first"):
        stream.feed(packets[1].data)


def test_a_stream_must_begin_with_a_key_frame(packets: list[Packet]) -> None:
    with pytest.raises(Misuse, match="send a key frame first"):
        Stream().feed(packets[3].data)


def test_a_stream_that_holds_pictures_back_is_refused() -> None:
    stream = Stream()
    with pytest.raises(Misuse, match="without B-frames"):
        for packet in encoded(bf="3", x264opts="b-adapt=0"):
            stream.feed(packet)


def test_slices_of_one_picture_are_one_packet() -> None:
    coded = encoded(tune="zerolatency", x264opts="slices=4")
    stream = Stream()
    for packet in coded:
        stream.feed(packet)
    assert stream.frames == 30


def test_a_stream_without_key_frames_is_stopped(packets: list[Packet], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "MAX_KEPT_PACKETS", 3)
    stream = Stream()
    for packet in packets[:3]:
        stream.feed(packet.data)
    with pytest.raises(Misuse, match="no key frame came"):
        stream.feed(packets[3].data)
    assert stream.feed(packets[KEY_EVERY].data).size


def test_a_video_larger_than_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "MAX_PIXELS", 100 * 100)
    with pytest.raises(Misuse, match="cannot be decoded"):
        Stream().feed(encoded(tune="zerolatency")[0])


def test_pictures_are_checked_before_they_are_decoded() -> None:
    grey = np.random.default_rng(2).integers(0, 255, (40, 30), np.uint8)
    png, jpeg = (cv2.imencode(kind, grey)[1].tobytes() for kind in (".png", ".jpg"))
    assert np.array_equal(open_picture(png), grey)
    assert open_picture(jpeg).shape == grey.shape
    size = jpeg.index(b"\xff\xc0") + 5
    for bad, words in {
        b"": "no PNG or JPEG",
        b"GIF89a": "no PNG or JPEG",
        png[:20]: "no PNG or JPEG",
        jpeg[:12]: "no PNG or JPEG",
        png[: len(png) // 2]: "damaged",
        jpeg[: len(jpeg) * 3 // 4]: "damaged",
        png[:16] + struct.pack(">II", 100_000, MAX_PIXELS // 100_000 + 1) + png[24:]: "megapixel",
        png[:16] + struct.pack(">II", 0, 10) + png[24:]: "0 x 10",
        jpeg[:size] + struct.pack(">HH", 65_000, 65_000) + jpeg[size + 4 :]: "megapixel",
    }.items():
        with pytest.raises(Misuse, match=words):
            open_picture(bad)
