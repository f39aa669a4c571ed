"""Object storage that is down, slow, fails, or cuts its answers, while images are embedded from and to a bucket."""

from pathlib import Path

from PIL import Image

from components.image_example_gen import stl10
from tests import faulty_storage, object_storage
from tests.soak.fault import Attempt, Fault, demand
from tests.soak.planned_faults import ONCE, ONWARDS, PlannedFaults
from tests.soak.scene import Scene, demand_sentence
from trainer.errors import BAD_DATA, FAILED, WRONG_USAGE

_VARIABLE = "AWS_ENDPOINT_URL"
_BUCKET = "soak"
_PICTURES = 60
_ATTEMPTS = 8
_KEY = "e.parquet"


def _embed(scene: Scene, attempt: Attempt) -> str:
    """Embeds pictures through a proxy until a command succeeds, with another fault each time."""
    folder, rng = attempt.folder, attempt.random
    with object_storage.running() as server:
        bucket = object_storage.client(server)
        bucket.create_bucket(Bucket=_BUCKET)
        _upload(bucket, scene.data, folder)
        command = ["embed", f"s3://{_BUCKET}/pictures", "--model", str(scene.model), "-o", f"s3://{_BUCKET}/{_KEY}"]
        with faulty_storage.in_front_of(server, _VARIABLE, PlannedFaults) as proxy:
            assert isinstance(proxy, PlannedFaults)

            def run():
                return scene.nnclr(folder, command, **object_storage.ENVIRONMENT, **{_VARIABLE: proxy.url})

            done = run()
            demand(done.code == 0, f"nnclr embed without a fault: {done.sentence}")
            undisturbed, calls = _content(bucket), len(proxy.requests)
            for _ in range(_ATTEMPTS):
                bucket.delete_object(Bucket=_BUCKET, Key=_KEY)
                once = rng.random() < 0.5
                first = rng.randint(1, calls)
                proxy.plan(rng.choice(ONCE if once else ONWARDS), first, first if once else 1_000_000)
                ended = run()
                if not proxy.place:
                    continue
                attempt.note(f"{proxy.kind} {'at' if once else 'from'} a call of S3{'' if once else ' on'}")
                if ended.code:
                    demand_sentence(ended, (FAILED, WRONG_USAGE, BAD_DATA), "s3://")
                    # In a bucket, a rename is a copy, and deleting the original may fail.
                    whole = _content(bucket) in (b"", undisturbed)
                    demand(whole, f"After {proxy.kind} at {proxy.place}, incomplete embeddings are visible.")
                else:
                    demand(_content(bucket) == undisturbed, f"After {proxy.kind} at {proxy.place}, embeddings differ.")
            proxy.plan("", 0, 0)
            ended = run()
            demand(ended.code == 0, f"With storage that answers: exit code {ended.code}: {ended.sentence}")
            demand(_content(bucket) == undisturbed, "The embeddings differ from those of an undisturbed command.")
            names = [each["Key"] for each in bucket.list_objects_v2(Bucket=_BUCKET)["Contents"]]
            left = [name for name in names if not name.startswith("pictures/") and name != _KEY]
            demand(not left, f"Objects are left: {left}.")
    return "one sentence, or tried again; in the end the same bytes"


def _upload(bucket, data: Path, folder: Path) -> None:
    images = stl10.decode_images((data / stl10.UNLABELLED_IMAGES).read_bytes())[:_PICTURES]
    for number, image in enumerate(images):
        path = folder / "picture.png"
        Image.fromarray(image).save(path)
        bucket.upload_file(str(path), _BUCKET, f"pictures/unlabelled/{number:03d}.png")


def _content(bucket) -> bytes:
    """Returns the embeddings; nothing if there are none."""
    try:
        return bucket.get_object(Bucket=_BUCKET, Key=_KEY)["Body"].read()
    except bucket.exceptions.NoSuchKey:
        return b""


FAULTS = [Fault("storage", 120, _embed)]
