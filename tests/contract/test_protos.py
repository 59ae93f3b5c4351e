"""The contracts: stubs match their sources, lint is clean, v1 bytes never change."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FieldDescriptor

from specbeam.draft.v1alpha1 import draft_service_pb2
from specbeam.recommend.v1 import recommend_service_pb2, types_pb2
from specbeam.target.v1alpha1 import session_pb2, target_service_pb2

ROOT = Path(__file__).parents[2]
FILES = (
    recommend_service_pb2,
    types_pb2,
    draft_service_pb2,
    target_service_pb2,
    session_pb2,
)


def beside_interpreter(name):
    bundled = Path(sys.executable).parent / name
    return str(bundled) if bundled.exists() else shutil.which(name)


def test_stubs_match_the_protos():
    if beside_interpreter("protoc-gen-mypy_grpc") is None:
        pytest.skip("mypy-protobuf is not installed")
    script = ROOT / "scripts" / "gen_protos.sh"
    run = subprocess.run(
        [script, "--check"],
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]


def test_protos_are_lint_clean():
    buf = beside_interpreter("buf")
    if buf is None:
        pytest.skip("buf is not installed")
    run = subprocess.run([buf, "lint"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("module", FILES, ids=lambda module: module.__name__)
def test_scores_are_double(module):
    for message in module.DESCRIPTOR.message_types_by_name.values():
        for field in message.fields:
            if field.name in ("score", "scores", "rank_value"):
                assert field.type == FieldDescriptor.TYPE_DOUBLE, field.full_name


@pytest.mark.parametrize("module", FILES, ids=lambda module: module.__name__)
def test_enums_start_with_unspecified(module):
    for enum in module.DESCRIPTOR.enum_types_by_name.values():
        assert enum.values_by_number[0].name.endswith("_UNSPECIFIED")


def test_public_messages_carry_no_tenant():
    pool = descriptor_pool.Default()
    for name in ("recommend_service", "types"):
        file = pool.FindFileByName(f"specbeam/recommend/v1/{name}.proto")
        for message in file.message_types_by_name.values():
            assert "tenant" not in message.fields_by_name


def test_score_kinds_of_the_public_and_the_internal_enum_agree():
    internal = dict(session_pb2.ScoreKind.items())
    assert dict(types_pb2.ScoreKind.items()) == internal


# Written once from the first release of v1: a change here breaks deployed clients.
GOLDEN = [
    (
        recommend_service_pb2.RecommendRequest(
            bundle="b",
            user_id="u",
            events=[types_pb2.Interaction(item_id="i", event_id="e", time_ms=1, type="t")],
            num_items=2,
            beam_width=3,
            mode=types_pb2.MODE_EXACT_TOPK,
            allowed_degradations=[types_pb2.DEGRADATION_NO_HISTORY],
            speculation=types_pb2.SPECULATION_OFF,
            max_rows=4,
            filter=types_pb2.Filter(exclude_history=False, exclude_item_ids=["x"]),
            include_metadata=True,
            debug=True,
        ),
        "0a01621201751a0b0a01691201651801220174280230034001"
        "4a01015001580462050800120178800101880101",
    ),
    (
        recommend_service_pb2.RecommendResponse(
            items=[
                types_pb2.RecommendedItem(
                    item_id="i",
                    score=-0.5,
                    score_kind=types_pb2.SCORE_KIND_VOCAB,
                    rank_value=-0.25,
                    tokens=[3, 300],
                    verified_rank=1,
                )
            ],
            mode=types_pb2.MODE_EXACT_TOPK,
            degraded=[types_pb2.DEGRADED_FLAG_NO_DRAFT],
            exhausted=True,
            work=types_pb2.Work(passes=2, rows=30, flow=types_pb2.FLOW_ROOT_FIRST),
            bundle="b",
            request_id="r",
        ),
        "0a1e0a016911000000000000e0bf180121000000000000d0bf2a0303ac023001"
        "10011a0101280132060802101e58024a0162520172",
    ),
    (recommend_service_pb2.DeleteUserRequest(user_id="u"), "0a0175"),
    (
        types_pb2.Filter(
            allow_item_ids=["i"],
            required_tags=[types_pb2.TagClause(any_of=["a", "b"]), types_pb2.TagClause()],
            created_after_ms=0,
        ),
        "1a016922060a01610a016222002800",
    ),
    (
        recommend_service_pb2.BundleInfo(
            tags=[recommend_service_pb2.TagInfo(name="a", num_items=300)],
            freshness_bucket_ms=3_600_000,
        ),
        "42060a016110ac024880dddb01",
    ),
    (
        recommend_service_pb2.Limits(
            max_excluded_items=1, max_allowed_items=2, max_tag_clauses=3, max_tags_per_clause=4
        ),
        "2001280230033804",
    ),
]


@pytest.mark.parametrize(("message", "golden"), GOLDEN, ids=lambda v: type(v).__name__)
def test_bytes_of_the_public_messages_never_change(message, golden):
    assert message.SerializeToString(deterministic=True).hex() == golden
    assert type(message).FromString(bytes.fromhex(golden)) == message


def test_an_empty_set_of_leaves_is_not_an_absent_one():
    nothing = session_pb2.SearchSpec(allowed_leaves=session_pb2.LeafSet())
    assert session_pb2.SearchSpec.FromString(nothing.SerializeToString()).HasField("allowed_leaves")
    assert not session_pb2.SearchSpec().HasField("allowed_leaves")
    moment = session_pb2.SearchSpec(created_after_ms=0)
    assert session_pb2.SearchSpec.FromString(moment.SerializeToString()).HasField(
        "created_after_ms"
    )
