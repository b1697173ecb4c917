"""TFRecord files: every damage is found and named."""

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_log import make_example, make_record
from tensorboardX.record_writer import RecordWriter

from jaxmtl.data.reading.tfrecord import masked_crc32c, read_examples

EXAMPLES = [
    {"word": [b"x", b"\xff"], "number": [-3, 2**40], "share": [0.5, 0.25], "none": []},
    {},
    {"word": [b"last"]},
]
RECORDS = [make_record(make_example(example)) for example in EXAMPLES]
FILE = b"".join(RECORDS)


def read_bytes(folder, content: bytes) -> list[dict]:
    path = folder / "part"
    path.write_bytes(content)
    return list(read_examples(path))


def crc32c_bit_by_bit(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=50))
def test_the_checksum_is_the_masked_castagnoli_crc(data):
    assert crc32c_bit_by_bit(b"123456789") == 0xE3069283  # RFC 3720, B.4
    crc = crc32c_bit_by_bit(data)
    rotated = (crc >> 15) | (crc << 17) & 0xFFFFFFFF
    assert masked_crc32c(data) == (rotated + 0xA282EAD8) % 2**32


def test_reads_what_another_library_wrote(tmp_path):
    path = tmp_path / "part"
    writer = RecordWriter(str(path))
    for example in EXAMPLES:
        writer.write(make_example(example))
    writer.close()
    assert list(read_examples(path)) == EXAMPLES
    assert path.read_bytes() == FILE


def test_reads_gzipped_files_whatever_their_name(tmp_path):
    assert read_bytes(tmp_path, gzip.compress(FILE)) == EXAMPLES


def test_an_empty_file_holds_no_record(tmp_path):
    assert read_bytes(tmp_path, b"") == []


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(FILE) - 1), st.integers(0, 7))
def test_any_flipped_bit_is_found_and_its_record_named(tmp_path_factory, at, bit):
    damaged = bytearray(FILE)
    damaged[at] ^= 1 << bit
    ends = [sum(map(len, RECORDS[: n + 1])) for n in range(len(RECORDS))]
    record = next(n for n, end in enumerate(ends) if at < end)
    with pytest.raises(ValueError, match=rf"part, record {record}: .*checksum"):
        read_bytes(tmp_path_factory.mktemp("flipped"), bytes(damaged))


def test_a_file_cut_anywhere_but_between_records_is_found(tmp_path):
    whole = {sum(map(len, RECORDS[:n])) for n in range(len(RECORDS) + 1)}
    for length in set(range(len(FILE))) - whole:
        with pytest.raises(ValueError, match=r"part, record \d: .* ends "):
            read_bytes(tmp_path, FILE[:length])


def test_a_gzipped_file_cut_anywhere_is_found(tmp_path):
    packed = gzip.compress(FILE)
    for length in range(3, len(packed)):
        with pytest.raises(ValueError, match=r"part, record \d: "):
            read_bytes(tmp_path, packed[:length])


@pytest.mark.parametrize("at", ["middle", "gzip's own checksum"])
def test_a_damaged_gzip_stream_is_found(tmp_path, at):
    packed = bytearray(gzip.compress(FILE))
    packed[len(packed) // 2 if at == "middle" else -8] ^= 255
    with pytest.raises(ValueError, match=r"part, record \d: "):
        read_bytes(tmp_path, bytes(packed))


def test_a_file_that_is_no_tfrecord_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"record 0: .*no TFRecord"):
        read_bytes(tmp_path, b"user,video,click\n1,2,0\n")


def test_a_payload_that_is_no_example_is_named(tmp_path):
    with pytest.raises(ValueError, match="record 3: .*Example"):
        read_bytes(tmp_path, FILE + make_record(b"\xff\xff\xff"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"cannot open .*absent: No such file"):
        next(read_examples(tmp_path / "absent"))
