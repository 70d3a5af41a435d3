"""Which tests, beside those that are marked where they stand, run in `make nightly` alone, so that `./check` stays short.

Each of them takes more than some five seconds and checks something that a shorter test also meets in part; of contract tests over
several shapes of images `./check` runs one shape for each method, another one for each test.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

WHOLE: dict[str, tuple[str, ...]] = {
    "cli/test_attack.py": ("test_killed_at_work_the_same_command_goes_on",),
    "cli/test_commands.py": (
        "test_a_lost_file_of_scores_is_found_and_written_again",
        "test_what_a_killed_call_did_not_write_is_written_again",
    ),
    "cli/test_errors.py": (
        "test_a_full_disk_loses_nothing_that_was_done",
        "test_an_interrupt_that_meets_a_callback_is_not_lost",
        "test_a_result_that_only_the_report_reads_is_made_again",
        "test_an_old_report_stays_until_everything_new_was_read",
        "test_a_page_and_an_overlay_that_cannot_be_written",
    ),
    "cli/test_reproduce.py": ("test_a_detector_that_is_computed_anew_agrees_with_the_records",),
    "datasets/test_assira.py": ("test_real_pictures",),
    "datasets/test_larger_than_memory.py": ("test_it_goes_through_a_run", "test_whoever_holds_all_pixels_is_caught"),
    "experiment/test_confidence.py": ("test_the_margin_s_detection_falls_as_confidence_rises",),
    "runner/test_pool.py": ("test_a_failed_gate_behaves_alike",),
    "experiment/test_fit_guard.py": (
        "test_worker_processes_make_the_same_guard",
        "test_level_seed_and_attacks_are_used",
        "test_two_networks_with_one_store_get_a_guard_each",
    ),
    "judging/test_judge.py": ("test_worker_processes_find_the_same_scores",),
    "recipes/test_fast.py": (
        "test_a_role_without_images_borrows_them_and_every_detector_is_stamped",
        "test_the_report_of_small_records_verifies_and_a_changed_score_is_found",
    ),
    "recipes/test_paper.py": ("test_the_combined_detectors_meet_all_attacks",),
    "report/test_claims.py": (
        "test_verify_finds_a_changed_claim",
        "test_it_goes_beside_the_black_box_of_the_same_classifier",
        "test_small_sizes_are_shown_with_the_papers_digits",
        "test_a_data_set_that_the_paper_does_not_have",
        "test_reduced_attacks_keep_their_mark",
    ),
    "report/test_collection.py": ("test_every_number_is_one_of_its_run_and_says_the_same",),
    "report/test_page.py": (
        "test_too_few_adversarials_are_counted_and_not_rated",
        "test_the_headline_for_scripts_is_the_pages_first_screen",
        "test_a_gate_that_passed_is_not_marked_and_reduced_attacks_have_a_star",
        "test_no_star_without_a_reduced_attack",
    ),
    "report/test_verify.py": ("test_another_run_seed_moves_every_detection_interval", "test_a_lost_file_of_scores_is_named"),
    "results/test_claims.py": ("test_jsd_is_better_only_because_id_did_not_train", "test_jsd_with_its_gradient_zeroed"),
    "results/test_kept.py": ("test_the_page_is_the_same_but_for_curves", "test_verify_computes_again_what_it_can"),
    "results/test_white_box.py": (
        "test_an_attack_that_misses_known_adversarials_is_not_reported",
        "test_an_attack_that_leaves_an_image_without_a_budget_is_not_reported",
    ),
    "test_benchmarks.py": ("test_a_run_is_recorded_packed_and_every_score_is_kept", "test_every_subject_has_figures_that_hang_together"),
    "test_environment.py": ("test_digits_come_from_a_folder_or_are_asked_for",),
}
ONE: dict[tuple[str, str], str] = {  # of these `./check` runs the cases whose name holds this
    ("adaptive/test_truth.py", "test_broken_attacks_fail_the_binarization_test"): "Selective",
    ("adaptive/test_truth.py", "test_detectors_that_are_weak_by_construction_leave_no_image_robust"): "mask only",
    ("adaptive/test_truth.py", "test_working_attacks_pass_the_binarization_test"): "SPD",
    ("classifiers/test_adversarially_trained.py", "test_it_is_right_under_attacks_that_fool_the_same_net_trained_on_naturals"): "compact",
    ("cli/test_lines.py", "test_a_terminal_of_another_encoding_never_fails"): "cp1252",
    ("runner/test_pool.py", "test_no_worker_outlives_its_caller"): "9",
    (
        "experiment/test_fit_guard.py",
        "test_images_come_as_people_have_them",
    ): "s",  # six of eleven
    ("experiment/test_hardening.py", "test_a_hardened_detector_knows_the_images_that_it_missed"): "ID",
    ("runner/test_transfer.py", "test_a_run_on_what_came_makes_only_images_and_ends_with_the_same_records"): "1",
    ("report/test_collection.py", "test_the_first_screen_of_any_of_the_folders_is_whole"): "alpha+zeta",
    ("report/test_verify.py", "test_a_missing_mandatory_control_is_found_and_its_numbers_are_not_printed"): "Null",
    ("results/test_claims.py", "test_how_far_maps_move"): "0.6-0.6-holds-holds",
    ("results/test_oracle.py", "test_every_number_of_a_recorded_run"): "mnist",
    ("results/test_truth.py", "test_what_hangs_on_a_lost_file_of_scores_vanishes_and_nothing_else_moves"): "published-FGSM",
    ("results/test_white_box.py", "test_recorded_numbers_come_again"): "digits",
}
NOT: dict[tuple[str, str], str] = {  # of these `./check` leaves out the cases whose name holds this
    ("attacks/test_contract.py", "test_neighbours_hardly_matter_in_float32"): "jsma",
    ("recipes/test_paper.py", "test_every_part_has_a_page"): "combined",  # which the test that waits computes
    ("test_inference.py", "test_a_mean_over_attacks_covers_though_attacks_share_their_images"): "9",
    ("test_modules.py", "test_it_answers_bit_for_bit_as_the_network_does_in_eval_mode_and_leaves_it_alone"): "compiled",
    ("test_readme.py", "test_the_measured_parts_are_what_the_records_give"): "README.md",
}
THIRDS = ("detectors/test_contract.py", "test_guard.py")  # of the detectors each test sees one third, another one for each test
SHAPES = ("attacks/test_contract.py", "harmless/test_contract.py", "controls/test_contract.py")  # one shape a test and method


def waits(path: str, function: str, case: str, parameters: dict[str, Any], shapes: Iterable[str]) -> bool:
    """Whether a test is left to the night.

    Args:
        path: of its file, from the folder of the tests.
        function: its name.
        case: what stands in brackets.
        parameters: of the case.
        shapes: names of all shapes.
    """
    if function in WHOLE.get(path, ()):
        return True
    if (kept := ONE.get((path, function))) is not None and kept not in case:
        return True
    if (left := NOT.get((path, function))) is not None and left in case:
        return True
    if path in THIRDS and "name" in parameters:
        return bool((zlib.crc32(f"{path}::{function}".encode()) + zlib.crc32(str(parameters["name"]).encode())) % 3)
    if path in SHAPES and "shape" in parameters:
        rest = [f"{k}={v}" for k, v in sorted(parameters.items()) if k != "shape"]
        every = sorted(shapes)
        return bool(parameters["shape"] != every[zlib.crc32(" ".join([function, *rest]).encode()) % len(every)])
    return False
