"""A repository that is there already, and may be in use: it is only added to."""

import os

import icechunk
import numpy as np
import pytest
import zarr
from numcodecs.zstd import Zstd

import refreeze
from refreeze.exceptions import MismatchError, TargetError
from scenarios import (
    VALUES,
    cli,
    flags,
    group,
    local_repository,
    nodes,
    s3_repository,
    s3_storage,
    stamp,
    state,
    theirs,
    upload,
    write_store,
)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "air.icechunk"


def container(prefix, name=None, path="/nowhere"):
    store = icechunk.ObjectStoreConfig.LocalFileSystem(str(path))
    return icechunk.VirtualChunkContainer(prefix, store, name)


def split_rule(regex, sizes):
    return {
        icechunk.ManifestSplitCondition.path_matches(regex): {
            icechunk.ManifestSplitDimCondition.Axis(axis): size for axis, size in sizes.items()
        }
    }


def test_other_content_stays(source, folder):
    """Arrays, attributes, history, tags and branches of others are as they were; main has moved on."""
    before = state(theirs(folder))
    files = stamp(folder)
    report = refreeze.ingest(source, folder)
    repository = local_repository(folder)
    now = state(repository)
    assert now["tags"] == before["tags"]
    assert now["branches"].keys() == before["branches"].keys()
    assert now["branches"]["work"] == before["branches"]["work"]
    assert now["branches"]["main"] == report.snapshot_id
    assert set(now["nodes"]) == {*before["nodes"], "/air", "/time", "/nested", "/nested/deep"}
    root = group(repository)
    assert (root["theirs"][:] == np.arange(10)).all()
    assert (root["air"][:] == VALUES).all()
    history = [snapshot.id for snapshot in repository.ancestry(branch="main")]
    assert before["branches"]["main"] in history
    # Everything but the mutable list of refs is written once and never touched again.
    changed = {
        name for name, content in stamp(folder).items() if files.get(name, content) != content
    }
    assert changed <= {"repo"}


def test_a_group_that_exists_keeps_its_attributes(source, folder):
    """Attributes of a group that is there are kept; that they differ is a warning."""
    theirs(folder)
    report = refreeze.ingest(source, folder)
    assert dict(group(local_repository(folder)).attrs) == {"owner": "them"}
    assert [w for w in report.warnings if "group / " in w and "kept" in w]


def test_stored_configuration_is_only_added_to(source, folder):
    """Thresholds, containers, splits: what was configured reads back as it was, in the same order."""
    config = icechunk.RepositoryConfig.default()
    config.inline_chunk_threshold_bytes = 77
    config.get_partial_values_concurrency = 3
    config.compression = icechunk.CompressionConfig(level=7)
    config.caching = icechunk.CachingConfig(num_chunk_refs=123)
    config.set_virtual_chunk_container(container("file:///their/data/", "their-data"))
    rules = split_rule("^/theirs$", {0: 3})
    config.manifest = icechunk.ManifestConfig(
        preload=icechunk.ManifestPreloadConfig(max_total_refs=11),
        splitting=icechunk.ManifestSplittingConfig.from_dict(rules),
    )
    repository = theirs(folder, config)
    repository.save_config()
    before = icechunk.Repository.fetch_config(repository.storage)
    refreeze.ingest(source, folder)
    after = icechunk.Repository.fetch_config(repository.storage)
    for name in (
        "inline_chunk_threshold_bytes",
        "get_partial_values_concurrency",
        "compression",
        "caching",
        "storage",
        "max_concurrent_requests",
        "max_concurrent_decodes",
        "num_updates_per_repo_info_file",
        "repo_update_retries",
    ):
        assert getattr(after, name) == getattr(before, name), name
    assert after.manifest.preload == before.manifest.preload
    assert (
        after.manifest.virtual_chunk_location_compression
        == before.manifest.virtual_chunk_location_compression
    )
    old, new = (c.manifest.splitting.split_sizes for c in (before, after))
    assert str(new[: len(old)]) == str(old)
    assert len(new) > len(old)
    old, new = before.virtual_chunk_containers, after.virtual_chunk_containers
    assert {prefix: new[prefix] for prefix in old} == old
    assert new.keys() - old.keys() == {f"file://{source}/"}


def test_existing_splits_keep_precedence(source, folder):
    """A rule of the repository's own that matches a new array decides on its manifests."""
    config = icechunk.RepositoryConfig.default()
    rules = split_rule("air", {0: 1})
    config.manifest = icechunk.ManifestConfig(
        splitting=icechunk.ManifestSplittingConfig.from_dict(rules)
    )
    theirs(folder, config).save_config()
    report = refreeze.ingest(source, folder)
    # One manifest for each of the three chunks of `air`, one for `nested/deep`, one for `time`.
    repository = local_repository(folder)
    assert len(repository.list_manifest_files(report.snapshot_id)) >= 4
    assert (group(repository)["air"][:] == VALUES).all()


def test_configuring_twice_adds_nothing(source, folder, tmp_path):
    """A second ingest of the same store elsewhere leaves the container alone and adds its splits."""
    refreeze.ingest(source, folder, target_group="one")
    storage = icechunk.local_filesystem_storage(str(folder))
    first = icechunk.Repository.fetch_config(storage)
    refreeze.ingest(source, folder, target_group="two")
    second = icechunk.Repository.fetch_config(storage)
    assert first.virtual_chunk_containers == second.virtual_chunk_containers


@pytest.mark.parametrize("name", ["everything", None])
def test_a_container_that_covers_the_source_is_used(source, folder, tmp_path, name):
    """Named or not, no second container is made, and what refers to it is read.

    That references to a named one are relative is pinned in `tests/rust`: the wheel shows all
    locations resolved.
    """
    config = icechunk.RepositoryConfig.default()
    prefix = f"file://{tmp_path}/"
    config.set_virtual_chunk_container(container(prefix, name, tmp_path))
    theirs(folder, config).save_config()
    report = refreeze.ingest(source, folder)
    assert report.container == prefix
    repository = local_repository(folder)
    assert list(repository.config.virtual_chunk_containers) == [prefix]
    locations = repository.readonly_session("main").all_virtual_chunk_locations()
    assert len(locations) == 5
    assert all(location.startswith(f"file://{source}/") for location in locations), locations
    assert (group(repository)["air"][:] == VALUES).all()


def test_the_narrowest_covering_container_is_used(source, folder, tmp_path):
    """Of two that cover the source the longer prefix wins, as it does when Icechunk reads."""
    config = icechunk.RepositoryConfig.default()
    wide, near = f"file://{tmp_path.parent}/", f"file://{tmp_path}/"
    config.set_virtual_chunk_container(container(wide, "wide", tmp_path.parent))
    config.set_virtual_chunk_container(container(near, "near", tmp_path))
    theirs(folder, config).save_config()
    assert refreeze.ingest(source, folder).container == near
    assert (group(local_repository(folder))["air"][:] == VALUES).all()


def test_a_container_of_another_endpoint(s3_bucket, source, folder):
    """A container that covers the bucket at another endpoint would read other bytes: MismatchError."""
    server, bucket = s3_bucket
    config = icechunk.RepositoryConfig.default()
    store = icechunk.s3_store(
        region="us-east-1", endpoint_url="http://127.0.0.1:1", allow_http=True
    )
    prefix = f"s3://{bucket}/"
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, store))
    repository = theirs(folder, config)
    repository.save_config()
    before = state(repository)
    url = upload(server, bucket, source, "air.zarr")
    with pytest.raises(MismatchError, match="another store") as raised:
        refreeze.ingest(url, folder, source_options=server.options)
    assert isinstance(raised.value, ValueError)
    assert prefix in raised.value.message
    assert raised.value.hint
    assert state(repository) == before


def test_a_container_name_that_is_taken(source, folder):
    """The name that the source's container would get means another prefix: MismatchError."""
    refreeze.ingest(source, folder.with_name("first"))
    storage = icechunk.local_filesystem_storage(str(folder.with_name("first")))
    [taken] = icechunk.Repository.fetch_config(storage).virtual_chunk_containers.values()
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(container("file:///elsewhere/", taken.name))
    repository = theirs(folder, config)
    repository.save_config()
    before = state(repository)
    with pytest.raises(MismatchError, match=taken.name):
        refreeze.ingest(source, folder)
    assert state(repository) == before


def test_into_a_group_beside_others(source, folder):
    """`target_group` and its parents are made; what stands beside it stays."""
    theirs(folder)
    refreeze.ingest(source, folder, target_group="models/run1")
    repository = local_repository(folder)
    assert nodes(repository) == [
        "/",
        "/models",
        "/models/run1",
        "/models/run1/air",
        "/models/run1/nested",
        "/models/run1/nested/deep",
        "/models/run1/time",
        "/theirs",
    ]
    assert dict(group(repository, path="models").attrs) == {}
    assert dict(group(repository, path="models/run1").attrs) == {"title": "air"}
    assert (group(repository)["models/run1/air"][:] == VALUES).all()


def test_two_sources_in_two_groups(source, folder, tmp_path):
    """Each keeps its own container, and both are read from one session."""
    other = write_store(tmp_path / "other.zarr", offset=100)
    refreeze.ingest(source, folder, target_group="one")
    report = refreeze.ingest(other, folder, target_group="two")
    assert report.commits >= 2
    repository = local_repository(folder)
    assert len(repository.config.virtual_chunk_containers) == 2
    root = group(repository)
    assert (root["one/air"][:] == VALUES).all()
    assert (root["two/air"][:] == VALUES + 100).all()
    assert (root["two/time"][:] == np.arange(6) + 100).all()
    again = refreeze.ingest(source, folder, target_group="one")
    assert again.already_published


def test_a_branch_that_is_not_there(source, folder, capsys):
    """In a repository that exists, a branch is not made up; the error lists those that there are."""
    repository = theirs(folder)
    before = state(repository)
    with pytest.raises(TargetError, match="no branch wrok") as raised:
        refreeze.ingest(source, folder, branch="wrok")
    assert "main" in raised.value.message
    assert "work" in raised.value.message
    assert "create_branch" in raised.value.hint
    assert state(repository) == before
    assert cli(capsys, "ingest", source, folder, "--branch", "wrok").code == 1


def test_another_branch_than_main(source, folder):
    """Publishing on a branch moves that branch alone."""
    repository = theirs(folder)
    before = state(repository)
    report = refreeze.ingest(source, folder, branch="work")
    now = state(repository)
    assert now["nodes"] == before["nodes"]
    assert now["branches"] == before["branches"] | {"work": report.snapshot_id}
    assert "/draft" in nodes(repository, "work")
    assert (group(local_repository(folder), "work")["air"][:] == VALUES).all()


def test_a_new_repository_on_another_branch(source, folder):
    """A branch that the first ingest names is made; main is there and empty."""
    refreeze.ingest(source, folder, branch="staging")
    repository = local_repository(folder)
    assert set(repository.list_branches()) == {"main", "staging"}
    assert nodes(repository) == []
    assert "/air" in nodes(repository, "staging")


def test_icechunk_objects_on_disk(source, folder):
    """Storage and Repository are targets too; a repository's unsaved settings are not needed."""
    storage = icechunk.local_filesystem_storage(str(folder))
    report = refreeze.ingest(source, storage, target_group="one")
    assert report.target == str(folder)
    repository = icechunk.Repository.open(storage)
    report = refreeze.ingest(source, repository, target_group="two")
    assert repository.lookup_branch("main") == report.snapshot_id
    assert {"/one/air", "/two/air"} <= set(nodes(repository))
    assert (group(local_repository(folder))["two/air"][:] == VALUES).all()


def test_icechunk_objects_on_s3(s3_bucket, source):
    """The S3 of object_store crosses over, credentials included, and is shown by its URL."""
    server, bucket = s3_bucket
    storage = s3_storage(server, bucket, "repo")
    store = server.store(bucket)
    upload(server, bucket, source, "air.zarr")
    report = refreeze.ingest((store, "air.zarr"), storage, target_group="one")
    assert report.target == f"s3://{bucket}/repo"
    assert report.source == f"s3://{bucket}/air.zarr"
    repository = icechunk.Repository.open(storage)
    refreeze.ingest((server.store(bucket, "air.zarr"), ""), repository, target_group="two")
    assert {"/one/air", "/two/air"} <= set(nodes(repository))
    root = group(s3_repository(server, bucket, "repo"))
    assert (root["one/air"][:] == VALUES).all()
    assert (root["two/air"][:] == VALUES).all()


def test_icechunk_storage_with_wrong_credentials(s3_bucket, source):
    """What the icechunk package raises becomes refreeze's own error."""
    server, bucket = s3_bucket
    if server.kind == "moto":
        pytest.skip("moto accepts any signature")
    from dataclasses import replace

    storage = s3_storage(replace(server, secret_access_key="WRONGSECRET"), bucket, "repo")
    with pytest.raises(refreeze.exceptions.AccessError) as raised:
        refreeze.ingest(source, storage)
    assert f"s3://{bucket}/repo" in raised.value.message
    assert "WRONGSECRET" not in str(raised.value)


def test_obstore_stores_as_sources(source, folder):
    """`(store, path)` with a LocalStore, with and without a prefix, and (registry, url)."""
    from obspec_utils.registry import ObjectStoreRegistry
    from obstore.store import LocalStore

    parent = source.parent
    sources = {
        "whole": (LocalStore(), str(source)),
        "prefix": (LocalStore(parent), source.name),
        "root": (LocalStore(source), ""),
        "registry": (ObjectStoreRegistry({"file://": LocalStore()}), f"file://{source}"),
        "path": source,
        "url": f"file://{source}",
    }
    for name, given in sources.items():
        report = refreeze.ingest(given, folder, target_group=name)
        assert report.references_written == 5, name
    root = group(local_repository(folder))
    for name in sources:
        assert (root[f"{name}/air"][:] == VALUES).all(), name


def test_settings_of_the_client(s3_bucket, source, folder, capsys):
    """Regression: `allow_http` and other HTTP settings among the options ended in a panic."""
    server, bucket = s3_bucket
    url = upload(server, bucket, source, "air.zarr")
    settings = server.options | {"timeout": "20s"}
    outcome = cli(
        capsys,
        "ingest",
        url,
        f"s3://{bucket}/repo",
        *flags("--source-option", settings),
        *flags("--target-option", settings),
    )
    assert outcome.code == 0, outcome.err
    assert os.environ.get("AWS_ALLOW_HTTP") is None


def test_files_are_compressed_at_the_configured_level(tmp_path):
    """A repository that names a level has its files at that level; one that names none, at level 1."""
    values = zarr.create_array(
        tmp_path / "flat.zarr", shape=(2_000,), chunks=(1,), dtype="int8", compressors=None
    )
    values[:] = 1
    sizes = {}
    for level in (None, 1, 3, 19):
        folder, config = tmp_path / f"level-{level}", icechunk.RepositoryConfig.default()
        if level is not None:
            config.compression = icechunk.CompressionConfig(level=level)
        icechunk.Repository.create(
            icechunk.local_filesystem_storage(str(folder)), config
        ).save_config()
        # Absolute locations, which are as long in each.
        report = refreeze.ingest(tmp_path / "flat.zarr", folder, locations="absolute")
        sizes[level] = report.manifest_bytes
        for file in (folder / "manifests").iterdir():
            stored = file.read_bytes()
            frame = stored[stored.index(bytes.fromhex("28b52ffd")) :]  # zstd's own mark
            again = Zstd(level=level or 1).encode(Zstd().decode(frame))
            assert len(frame) == pytest.approx(len(again), rel=0.01)
    assert sizes[None] == pytest.approx(sizes[1], rel=0.01)
    assert len({sizes[1], sizes[3], sizes[19]}) == 3
