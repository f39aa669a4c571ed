"""The deliberate slips: each is a small, plausible mistake that a named test must catch."""

from typing import NamedTuple


class Slip(NamedTuple):
    """A mistake in one place.

    Attributes:
        what: the mistake, in a few words.
        file: path from the repository's root.
        old: text that stands in the file exactly once.
        new: text that replaces it.
        test: pytest's name of the test that must fail.
    """

    what: str
    file: str
    old: str
    new: str
    test: str


_STEP = "tests/trainer/test_step.py::test_a_step_compares_learns_and_enqueues_what_its_mode_says"
_LOSSES, _STEP_FILE, _SUPPORT = "trainer/losses.py", "trainer/step.py", "trainer/support_set.py"
_MODEL, _REPLICAS = "trainer/model.py", "trainer/replicas.py"
_OPTIMIZERS, _AUGMENTATION, _CHECKPOINTS = "trainer/optimizers.py", "trainer/augmentation.py", "trainer/checkpoints.py"
_GATE, _FINDINGS = "components/linear_probe_evaluator/gate.py", "components/linear_probe_evaluator/findings.py"
_PROBES = "components/linear_probe_evaluator/probes.py"
_PUSH, _SERVING = "components/registry_pusher/push.py", "components/registry_pusher/serving.py"
_HISTORY, _SPANS = "components/model_registry/history.py", "components/data_resolver/spans.py"
_FINGERPRINT, _PARAMETERS = "components/image_example_gen/fingerprint.py", "pipeline/kubeflow/parameters.py"
_FILES = "components/image_example_gen/sources/files.py"

SLIPS = [
    Slip(
        "the paper's anchors are exchanged: NN(z1) meets p1",
        _LOSSES,
        "anchors = [View(rows, rows) for rows in tf.unstack(neighbours)]",
        "anchors = [View(rows, rows) for rows in tf.unstack(neighbours)][::-1]",
        f"{_STEP}[paper]",
    ),
    Slip(
        "projections stand in for their neighbours",
        _STEP_FILE,
        "self._loss(z, _by_view(nearest.vectors, 2), ",
        "self._loss(z, _by_view(tf.stop_gradient(both), 2), ",
        f"{_STEP}[paper]",
    ),
    Slip(
        "straight-through anchors are exchanged",
        _LOSSES,
        "*projections, first, second = gather(",
        "*projections, second, first = gather(",
        f"{_STEP}[straight_through]",
    ),
    Slip(
        "straight-through neighbours pass no gradient on",
        _LOSSES,
        "straight = whole + tf.stop_gradient(neighbours - whole)",
        "straight = neighbours",
        f"{_STEP}[straight_through]",
    ),
    Slip(
        "straight-through takes the softmax one way",
        _LOSSES,
        "for direction in ((anchor, projection), (projection, anchor))",
        "for direction in ((anchor, projection),)",
        f"{_STEP}[straight_through]",
    ),
    Slip(
        "the batch is enqueued before its neighbours are looked up",
        _STEP_FILE,
        "            nearest = model.support_set.nearest(\n",
        "            model.support_set.enqueue(tf.stop_gradient(both[: tf.shape(both)[0] // 2]))\n"
        "            nearest = model.support_set.nearest(\n",
        f"{_STEP}[paper]",
    ),
    Slip(
        "the support set is filled from the second view",
        _STEP_FILE,
        "model.support_set.enqueue(projections[0].everywhere)",
        "model.support_set.enqueue(projections[1].everywhere)",
        f"{_STEP}[none]",
    ),
    Slip(
        "predictions are compared unnormalised",
        _MODEL,
        "return tf.reshape(_normalised(predictions), ",
        "return tf.reshape(predictions, ",
        f"{_STEP}[paper]",
    ),
    Slip(
        "both views are the same draw",
        _STEP_FILE,
        "drawn = [numbers[_FIRST_VIEW], numbers[_SECOND_VIEW]]",
        "drawn = [numbers[_FIRST_VIEW], numbers[_FIRST_VIEW]]",
        f"{_STEP}[none]",
    ),
    Slip(
        "the mean is over the replica's rows instead of the global batch's",
        _REPLICAS,
        "rows = tf.shape(per_sample)[0] * count()",
        "rows = tf.shape(per_sample)[0]",
        "tests/trainer/test_devices.py::test_many_devices_equal_one[example, sgd-2]",
    ),
    Slip(
        "labelled images change the encoder's statistics",
        _STEP_FILE,
        "embeddings = tf.cast(self._model.encoder(views, training=False), tf.float32)",
        "embeddings = tf.cast(self._model.encoder(views, training=True), tf.float32)",
        "tests/trainer/test_step.py::test_labelled_images_leave_no_trace_in_the_encoder",
    ),
    Slip(
        "a view is its own negative",
        _LOSSES,
        "for j, candidate in enumerate(candidates) if i != j]",
        "for j, candidate in enumerate(candidates)]",
        "tests/trainer/test_losses.py::test_papers_loss_and_gradient",
    ),
    Slip(
        "the temperature multiplies",
        _LOSSES,
        "transpose_b=True) / temperature",
        "transpose_b=True) * temperature",
        "tests/trainer/test_losses.py::test_papers_loss_and_gradient",
    ),
    Slip(
        "every replica takes its positives from the first replica's rows",
        _REPLICAS,
        "return tf.distribute.get_replica_context().replica_id_in_sync_group * rows + tf.range(rows)",
        "return tf.range(rows)",
        "tests/trainer/test_devices.py::test_many_devices_equal_one[example, sgd-2]",
    ),
    Slip(
        "the newest members are overwritten instead of the oldest",
        _SUPPORT,
        "positions = (self.pointer + tf.range(count)) % size",
        "positions = (self.pointer - 1 - tf.range(count)) % size",
        "tests/trainer/test_support_set.py::test_holds_the_newest_whatever_batch_and_size",
    ),
    Slip(
        "the farthest member counts as nearest",
        _SUPPORT,
        "return tf.gather(positions, tf.argmax(inside, axis=1), batch_dims=1)",
        "return tf.gather(positions, tf.argmin(inside, axis=1), batch_dims=1)",
        "tests/trainer/test_support_set.py::test_nearest_has_the_largest_dot_product_and_passes_no_gradient",
    ),
    Slip(
        "the neighbour passes a gradient to the members",
        _SUPPORT,
        "Neighbours(tf.stop_gradient(tf.gather(self.members, positions))",
        "Neighbours(projections + tf.stop_gradient(tf.gather(self.members, positions) - projections)",
        "tests/trainer/test_support_set.py::test_nearest_has_the_largest_dot_product_and_passes_no_gradient",
    ),
    Slip(
        "ages are one image too high",
        _SUPPORT,
        "ages = (self.pointer - 1 - positions) % self.members.shape[0]",
        "ages = (self.pointer - positions) % self.members.shape[0]",
        "tests/trainer/test_support_set.py::test_ages_count_images_enqueued_since",
    ),
    Slip(
        "LARS turns its ratio of norms over",
        _OPTIMIZERS,
        "self._trust * norms[0] / norms[1]",
        "self._trust * norms[1] / norms[0]",
        "tests/trainer/test_optimizers.py::test_lars",
    ),
    Slip(
        "biases and batch norm decay",
        _OPTIMIZERS,
        "[variable for variable in variables if _is_vector(variable)]",
        "[]",
        "tests/trainer/test_optimizers.py::test_only_kernels_decay",
    ),
    Slip(
        "the warm-up counts as part of the cosine",
        _OPTIMIZERS,
        "decay_steps=steps - warmup,",
        "decay_steps=steps,",
        "tests/trainer/test_optimizers.py::test_schedule",
    ),
    Slip(
        "images are mirrored upside down",
        _AUGMENTATION,
        "boxes = tf.stack([top * down, left * across, (top + height) * down, right * across], axis=1)",
        "boxes = tf.stack([(top + height) * down, left * across, top * down, right * across], axis=1)",
        "tests/trainer/test_augmentation.py::test_flip_mirrors_about_half_from_left_to_right",
    ),
    Slip(
        "crops of small images reach into the empty part of the canvas",
        _AUGMENTATION,
        "ends = (shapes - 1.0) /",
        "ends = (canvas - 1.0) /",
        "tests/trainer/test_stored_images.py::test_a_crop_is_the_same_on_any_canvas",
    ),
    Slip(
        "crops of images that are not square are distorted",
        _AUGMENTATION,
        "ratio /= aspect",
        "ratio /= 1.0",
        "tests/trainer/test_stored_images.py::test_a_crop_keeps_its_ratio_on_images_that_are_not_square",
    ),
    Slip(
        "hidden folders are classes",
        "components/image_example_gen/sources/folder_layout.py",
        'part.startswith(".")',
        'part.startswith("..")',
        "tests/components/test_folder_layout.py::test_every_file_that_is_not_ingested_has_a_reason",
    ),
    Slip(
        "copies of a picture are trained on and tested on",
        "components/image_example_gen/sources/dividing.py",
        "groups.get(key, key) if isinstance(key, int) else key",
        "str(key).encode()",
        "tests/components/test_folder_layout.py::test_labels_without_splits_are_divided_by_content",
    ),
    Slip(
        "both views have the first one's blur",
        _AUGMENTATION,
        "probabilities[view % 2]",
        "probabilities[0]",
        "tests/trainer/test_augmentation.py::test_blur_and_solarise_happen_with_their_probability_of_each_view",
    ),
    Slip(
        "dark pixels are solarised",
        _AUGMENTATION,
        "(views > 0.5), 1.0 - views",
        "(views < 0.5), 1.0 - views",
        "tests/trainer/test_augmentation.py::test_solarise_inverts_what_is_brighter_than_a_half",
    ),
    Slip(
        "random numbers are the same in every step",
        _AUGMENTATION,
        "tf.cast(step, tf.int64)])",
        "tf.cast(0 * step, tf.int64)])",
        "tests/trainer/test_augmentation.py::test_numbers_depend_on_seed_stream_step_and_row_only",
    ),
    Slip(
        "a checkpoint of another training is taken",
        _CHECKPOINTS,
        'if description["key"] != self._key:',
        "if False:",
        "tests/trainer/test_checkpoints.py::test_a_foreign_one_is_named_and_the_one_before_it_used",
    ),
    Slip(
        "the newest checkpoints are deleted",
        _CHECKPOINTS,
        "self._names()[: -self._keep]",
        "self._names()[self._keep :]",
        "tests/trainer/test_checkpoints.py::test_only_the_last_ones_are_kept",
    ),
    Slip(
        "what another process is still writing is deleted",
        "trainer/aside.py",
        "if time.time() - newest > ABANDONED_AFTER_SECONDS:",
        "if True:",
        "tests/trainer/test_checkpoints.py::test_what_a_killed_process_left_aside_is_never_taken_and_is_tidied_away",
    ),
    Slip(
        "GPUs before Ampere get bfloat16",
        "trainer/devices.py",
        "return capability >= (8, 0)",
        "return capability >= (7, 0)",
        "tests/trainer/test_gpu_choice.py::test_gpus_compute_in_bfloat16_from_ampere_on",
    ),
    Slip(
        "Ampere itself gets float32",
        "trainer/devices.py",
        "return capability >= (8, 0)",
        "return capability > (8, 0)",
        "tests/trainer/test_gpu_choice.py::test_gpus_compute_in_bfloat16_from_ampere_on",
    ),
    Slip(
        "an accuracy at the floor is refused",
        _GATE,
        "passed = accuracy >= floor",
        "passed = accuracy > floor",
        "tests/components/test_evaluator.py::test_gate_at_its_bounds",
    ),
    Slip(
        "an encoder that may be no better than an untrained one is blessed",
        _GATE,
        "passed = untrained.lead.low > 0",
        "passed = untrained.lead.high > 0",
        "tests/components/test_evaluator.py::test_gate_at_its_bounds",
    ),
    Slip(
        "the champion is compared at the other end of the interval",
        _GATE,
        "passed = champion.lead.low >= -tolerance",
        "passed = champion.lead.high >= -tolerance",
        "tests/components/test_evaluator.py::test_gate_at_its_bounds",
    ),
    Slip(
        "a lead over an untrained encoder of exactly 0 suffices",
        _GATE,
        "passed = untrained.lead.low > 0",
        "passed = untrained.lead.low >= 0",
        "tests/components/test_evaluator.py::test_gate_at_its_bounds",
    ),
    Slip(
        "a class at the least recall counts as missed",
        _GATE,
        "if share < least]",
        "if share <= least]",
        "tests/components/test_evaluator.py::test_gate_at_its_bounds",
    ),
    Slip(
        "RankMe's bound is one direction too high",
        _FINDINGS,
        "if rank < classes - 1:",
        "if rank < classes:",
        "tests/components/test_evaluator.py::test_collapse_is_reported_below_one_direction_less_than_classes",
    ),
    Slip(
        "the difference of two encoders has the wrong sign",
        _PROBES,
        "gains = ours.hits - theirs.hits",
        "gains = theirs.hits - ours.hits",
        "tests/components/test_evaluator.py::test_paired_difference_is_sharper_than_the_intervals_suggest",
    ),
    Slip(
        "an encoder goes ahead of a champion that it was not compared with",
        _PUSH,
        "if champion.version in (version.version, baseline):",
        "if True:",
        "tests/components/test_push.py::test_a_candidate_is_not_promoted_if_the_champion_changed_during_the_run[0.9]",
    ),
    Slip(
        "the last of the encoders that raced becomes champion",
        _PUSH,
        "first = raced[-1]",
        "first = raced[0]",
        "tests/components/test_push.py::test_an_interrupted_race_is_settled_by_the_push_that_is_repeated",
    ),
    Slip(
        "an alias that a person moved is taken for a race",
        _PUSH,
        "champion.version not in {move.version for move in raced}",
        "False",
        "tests/components/test_push.py::test_a_race_is_not_settled_if_a_person_moved_the_alias",
    ),
    Slip(
        "a deleted alias is set again",
        _PUSH,
        "        if last is None:\n            return None\n",
        "        return None\n",
        "tests/components/test_push.py::test_an_alias_that_a_person_deleted_is_not_set_again_by_a_push",
    ),
    Slip(
        "a version that does not load back becomes champion",
        _PUSH,
        "            if damage:\n                raise DamagedVersion",
        "            if not damage:\n                raise DamagedVersion",
        "tests/components/test_registry.py::test_a_version_that_does_not_load_back_never_becomes_champion",
    ),
    Slip(
        "a rollback goes forward again",
        _HISTORY,
        "if move.kind == ROLLBACK and move.version in trail:",
        "if False:",
        "tests/components/test_registry.py::test_rollbacks_after_a_promotion_of_the_first_version_come_to_an_end",
    ),
    Slip(
        "an interrupted move counts as completed",
        _HISTORY,
        "completed=move.done or started_from.get(move.alias) == move.version",
        "completed=True",
        "tests/components/test_registry.py::test_an_interrupted_move_is_recognised_and_completed_by_its_author",
    ),
    Slip(
        "the oldest span is resolved",
        _SPANS,
        "key=lambda span: span.order, reverse=True)",
        "key=lambda span: span.order)",
        "tests/components/test_data_resolver.py::test_the_newest_complete_span_is_resolved",
    ),
    Slip(
        "spans are ordered as text",
        _SPANS,
        "tuple(int(fields.get(field, 0)) for field in _FIELDS)",
        'tuple(fields.get(field, "") for field in _FIELDS)',
        "tests/components/test_data_resolver.py::test_spans_are_ordered_as_numbers_and_may_be_nested",
    ),
    Slip(
        "copied modification times of a folder's files make it complete",
        _FILES,
        "Entry(status.st_size, status.st_ctime, version)",
        "Entry(status.st_size, status.st_mtime, version)",
        "tests/components/test_data_resolver.py::test_copied_modification_times_do_not_make_a_span_complete",
    ),
    Slip(
        "the fingerprint ignores names",
        _FINGERPRINT,
        "contents = ([name, found.get(path)",
        "contents = ([found.get(path)",
        "tests/components/test_fingerprint.py::test_it_depends_on_the_class_of_a_picture",
    ),
    Slip(
        "the fingerprint depends on the source's path",
        _FINGERPRINT,
        "names = {path: path.removeprefix(source.path) for",
        "names = {path: path for",
        "tests/components/test_fingerprint.py::test_it_depends_on_content_and_not_on_path_or_date",
    ),
    Slip(
        "an edit that keeps size and date is missed",
        _FILES,
        "{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}",
        "{status.st_mtime_ns}:{status.st_ino}",
        "tests/components/test_fingerprint.py::test_an_edit_that_keeps_size_and_date_changes_it",
    ),
    Slip(
        "what changed while it was read is ingested",
        "components/image_example_gen/ingest.py",
        "    require_unchanged(source, fingerprint)\n",
        "",
        "tests/components/test_ingest.py::test_a_source_that_changes_while_it_is_read_is_not_ingested",
    ),
    Slip(
        "what arrived since the run started is ingested under the old fingerprint",
        _FINGERPRINT,
        "if found != expected:",
        "if not expected:",
        "tests/components/test_fingerprint.py::test_a_source_that_changed_since_the_run_started_is_refused",
    ),
    Slip(
        "the digests of deleted files are remembered for ever",
        "components/image_example_gen/digests.py",
        "for path, found in current.items()",
        "for path, found in ({root + name: value for name, (_, value) in known.items()} | current).items()",
        "tests/components/test_fingerprint.py::test_the_memory_holds_the_files_of_sources_in_use",
    ),
    Slip(
        "an error of the storage is taken for a bad picture",
        _FILES,
        "        except PermissionError as error:\n            return error",
        "        except OSError as error:\n            return error",
        "tests/components/test_files.py::test_an_error_of_a_disk_is_tried_again_and_then_named",
    ),
    Slip(
        "objects are read ahead without a bound on their bytes",
        _FILES,
        "or bytes_waiting + entry.size > _MOST_BYTES_WAITING",
        "or bytes_waiting > 2**40",
        "tests/components/test_files.py::test_many_objects_are_requested_at_a_time_and_their_bytes_are_bounded[gs]",
    ),
    Slip(
        "s3fs asks for the size of each object before it reads it",
        _FILES,
        "end=end, max_concurrency=1)",
        "end=end)",
        "tests/components/test_files.py::test_a_bucket_answers_one_request_for_a_listing_and_one_for_each_object[s3]",
    ),
    Slip(
        "a link in a circle is followed for ever",
        _FILES,
        "_scan(entry.path, name, [*above, status], found)",
        "_scan(entry.path, name, above, found)",
        "tests/components/test_files.py::test_links_are_followed_and_what_cannot_be_listed_is_told",
    ),
    Slip(
        "a run's epochs reach the record and not the Trainer",
        _PARAMETERS,
        '"Trainer": ("custom_config.settings", "trainer"),',
        '"Trainer": ("custom_config", "trainer"),',
        "tests/pipeline/kubeflow/test_compile.py::test_run_parameters_reach_every_step_that_holds_their_setting",
    ),
    Slip(
        "a step is given a GPU and told to ignore it",
        "pipeline/kubeflow/compile.py",
        "if task != TRAINER and not step.gpus:",
        "if task != TRAINER:",
        "tests/pipeline/kubeflow/test_compile.py::test_a_step_with_a_gpu_can_use_it",
    ),
    Slip(
        "the reason of a failed pod is not the message of its container",
        "pipeline/kubeflow/entrypoint.py",
        "if _TERMINATION_LOG.exists():",
        "if not _TERMINATION_LOG.exists():",
        "tests/pipeline/kubeflow/test_pods.py::test_a_users_mistake_is_one_line_of_the_pods_log",
    ),
    Slip(
        "a line of progress that nobody reads ends the training",
        "pipeline/terminal/screen.py",
        "        process.discard_output()",
        "        raise SystemExit(1)",
        "tests/pipeline/terminal/test_screen.py::test_work_goes_on_when_nobody_reads_its_progress_any_more[LastingConsole-True]",
    ),
    Slip(
        "a pod has no folder for temporary files, and its file system is read-only",
        "pipeline/kubeflow/compile.py",
        'volume_name="scratch", mount_path=SCRATCH,',
        'volume_name="scratch", mount_path="/scratch",',
        "tests/pipeline/kubeflow/test_pods.py::test_a_users_mistake_is_one_line_of_the_pods_log",
    ),
    Slip(
        "versions of another registry are replaced",
        _SERVING,
        "(self.model, self.model_created) == (other.model, other.model_created)",
        "self.model == other.model",
        "tests/components/test_serving.py::test_versions_of_another_model_registry_or_tool_are_never_replaced_or_deleted",
    ),
    Slip(
        "prune deletes the version that a rollback goes to",
        "components/model_registry/registry.py",
        "if not version.aliases and version.version not in needed]",
        "if not version.aliases]",
        "tests/components/test_registry.py::test_prune_keeps_the_champion_and_its_rollback_target",
    ),
    Slip(
        "a served version appears before all its files are copied",
        _SERVING,
        "_copy(files, saved_model, unfinished, version)",
        "_copy(files, saved_model, unfinished := path, version)",
        "tests/components/test_serving.py::test_serving_never_sees_a_version_while_its_files_are_copied",
    ),
    Slip(
        "two processes share the name of what is half-written",
        "trainer/aside.py",
        "uuid.uuid4().hex",
        "uuid.UUID(int=0).hex",
        "tests/trainer/test_aside.py::test_every_write_has_a_name_of_its_own_which_is_hidden",
    ),
    Slip(
        "examples that this machine does not see are not missed",
        "components/image_example_gen/ingest.py",
        "        unseen += expected - (len(",
        "        unseen = 0 * (len(",
        "tests/pipeline/engine/test_pipelines.py::test_a_folder_that_workers_do_not_share_is_named",
    ),
    Slip(
        "the error that a worker raised is hidden by those around it",
        "pipeline/engine/worker_errors.py",
        "raised[0]",
        "raised[-1]",
        "tests/pipeline/engine/test_worker_errors.py::test_the_workers_first_error_is_told_with_its_exit_code",
    ),
    Slip(
        "workers in the step's own pod demand a bucket",
        "pipeline/config/beam_options.py",
        ' or _environment(options) == "LOOPBACK":',
        ":",
        "tests/pipeline/test_config.py::test_only_workers_on_other_machines_need_a_bucket",
    ),
]
