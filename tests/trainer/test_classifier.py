import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from beam_pipelines.errors import OptionError
from tests.trainer.replica_training import CLASSES, tiny_classifier
from trainer.classifier import Classifier, ModelSpec, build_classifier, check_model, describe
from trainer.options import resolve

SMALL_CNN = ModelSpec(name="small_cnn", image_size=16, dropout=0.3)
HEAD = ModelSpec(name="head", width=6, hidden_units=(4, 3), dropout=0.5)


def values(classifier: Classifier) -> list[npt.NDArray[np.float32]]:
    return [variable.numpy() for variable in classifier.model.variables]


def are_equal(first: Classifier, second: Classifier) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(values(first), values(second), strict=True))


def inputs_of(spec: ModelSpec, batch: int = 4) -> tf.Tensor:
    shape = (batch, spec.width) if spec.width else (batch, spec.image_size, spec.image_size, 3)
    return tf.constant(np.random.default_rng(3).uniform(0, 255, shape), tf.float32)


def stirred(classifier: Classifier) -> Classifier:
    """Gives the layer of the classes weights as if it had been trained: it begins at 0."""
    kernel = classifier.head.get_layer("logits").kernel
    kernel.assign(np.random.default_rng(4).normal(0, 0.1, kernel.shape))
    return classifier


@pytest.fixture
def dtype_policy() -> Iterator[Callable[[str], None]]:
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("spec", [SMALL_CNN, HEAD])
def test_the_same_seed_gives_the_same_variables_whatever_was_built_before(spec: ModelSpec) -> None:
    first = build_classifier(spec, labels=5, seed=3)
    keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.1), keras.layers.Dense(2)])
    second = build_classifier(spec, labels=5, seed=3)
    assert [v.path for v in first.model.variables] == [v.path for v in second.model.variables]
    assert are_equal(first, second)
    assert not are_equal(first, build_classifier(spec, labels=5, seed=4))


def test_layers_do_not_share_their_random_numbers() -> None:
    spec = dataclasses.replace(HEAD, width=4, hidden_units=(4, 4))
    kernels = [v.numpy() for v in build_classifier(spec, labels=4).model.variables if v.path.endswith("kernel")]
    seeds = [tuple(v.numpy()) for v in build_classifier(spec, labels=4).model.variables if "seed" in v.path]
    assert not np.array_equal(kernels[0], kernels[1])
    assert len(seeds) == len(set(seeds)) == 2


def test_names_go_on_where_they_were_after_a_classifier_is_built() -> None:
    before = keras.layers.Dense(1).name
    build_classifier(HEAD, labels=5)
    assert keras.layers.Dense(1).name != before


def test_a_checkpoint_of_one_classifier_fits_another(tmp_path: object) -> None:
    first, second = (build_classifier(SMALL_CNN, labels=5, seed=seed) for seed in (1, 2))
    stirred(first)
    path = tf.train.Checkpoint(model=first.model).write(f"{tmp_path}/ckpt")
    tf.train.Checkpoint(model=second.model).read(path).assert_consumed()
    image = inputs_of(SMALL_CNN)
    assert np.array_equal(first.model(image), second.model(image))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("spec", [SMALL_CNN, HEAD])
def test_logits_are_float32_whatever_is_computed_in(
    spec: ModelSpec, policy: str, dtype_policy: Callable[[str], None]
) -> None:
    dtype_policy(policy)
    classifier = build_classifier(spec, labels=5)
    logits = classifier.forward(inputs_of(spec), training=True, fine_tuning=False)
    assert (logits.dtype, logits.shape) == (tf.float32, (4, 5))
    assert classifier.model(inputs_of(spec)).dtype == tf.float32
    assert {v.dtype for v in classifier.trainable_variables(False)} == {"float32"}


def test_all_classes_are_alike_at_first() -> None:
    for spec in (SMALL_CNN, HEAD):
        assert not build_classifier(spec, labels=5).model(inputs_of(spec)).numpy().any()


def test_small_cnn_sees_a_picture_of_any_brightness_and_contrast_alike() -> None:
    classifier = stirred(build_classifier(SMALL_CNN, labels=5))
    image = inputs_of(SMALL_CNN)
    changed, expected = (classifier.model(pixels).numpy() for pixels in (image * 0.5 + 100, image))
    assert changed == pytest.approx(expected, rel=1e-2, abs=1e-2)


def test_small_cnn_takes_a_picture_of_one_colour() -> None:
    classifier = stirred(build_classifier(SMALL_CNN, labels=5))
    assert np.isfinite(classifier.model(tf.fill((1, 16, 16, 3), 255.0))).all()


def test_small_cnn_learns_two_kinds_of_pictures_apart() -> None:
    classifier = build_classifier(SMALL_CNN, labels=2)
    images = np.random.default_rng(0).uniform(0, 255, (16, 16, 16, 3)).astype(np.float32)
    images[:8, :8] *= 0.1
    images[8:, 8:] *= 0.1
    targets = np.repeat([0, 1], 8)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.model.compile(keras.optimizers.Adam(1e-3), loss)
    classifier.model.fit(images, targets, epochs=10, batch_size=16, verbose=0)
    assert (np.argmax(classifier.model(images), axis=1) == targets).all()


def test_hidden_layers_and_dropout_are_those_of_the_options() -> None:
    model = build_classifier(HEAD, labels=5).model
    assert [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)] == [4, 3, 5]
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.5, 0.5]


def test_without_hidden_layers_the_vector_is_dropped_from() -> None:
    spec = dataclasses.replace(HEAD, hidden_units=())
    kinds = [type(layer).__name__ for layer in build_classifier(spec, labels=5).model.layers]
    assert kinds == ["InputLayer", "Dropout", "Dense"]


def test_units_are_dropped_in_training_alone() -> None:
    classifier = stirred(build_classifier(HEAD, labels=5))
    vectors = inputs_of(HEAD)
    still = [classifier.forward(vectors, training=False, fine_tuning=False) for _ in range(2)]
    assert np.array_equal(*still)
    drawn = [classifier.forward(vectors, training=True, fine_tuning=False) for _ in range(2)]
    assert not np.array_equal(*drawn)


def paths(classifier: Classifier, *, fine_tuning: bool) -> list[str]:
    return [variable.path for variable in classifier.trainable_variables(fine_tuning)]


CONV_1, CONV_2 = (["conv_1/kernel", "conv_1/bias"], ["conv_2/kernel", "conv_2/bias"])
LOGITS = ["logits/kernel", "logits/bias"]


def test_a_frozen_backbone_leaves_the_head_to_train() -> None:
    assert paths(tiny_classifier(), fine_tuning=False) == LOGITS


def test_fine_tuning_trains_all_but_batch_normalisation() -> None:
    assert paths(tiny_classifier(), fine_tuning=True) == [*CONV_1, *CONV_2, *LOGITS]


@pytest.mark.parametrize(("layers", "tuned"), [(1, CONV_2), (2, [*CONV_1, *CONV_2]), (9, [*CONV_1, *CONV_2])])
def test_fine_tuning_trains_the_last_layers_that_can_be(layers: int, tuned: list[str]) -> None:
    assert paths(tiny_classifier(unfreeze_layers=layers), fine_tuning=True) == [*tuned, *LOGITS]


def test_batch_normalisation_learns_where_the_whole_backbone_starts_from_random_weights() -> None:
    normalisation = ["normalisation/gamma", "normalisation/beta"]
    assert set(normalisation) < set(paths(tiny_classifier(weights="none"), fine_tuning=True))
    assert not set(normalisation) & set(paths(tiny_classifier(weights="none", unfreeze_layers=2), fine_tuning=True))
    assert not set(normalisation) & set(paths(tiny_classifier(weights="file.weights.h5"), fine_tuning=True))


def statistics(classifier: Classifier) -> list[npt.NDArray[np.float32]]:
    return [v.numpy() for v in classifier.model.variables if "/moving_" in v.path]


@pytest.mark.parametrize(
    ("weights", "fine_tuning", "learns"),
    [("none", True, True), ("none", False, False), ("imagenet", True, False), ("imagenet", False, False)],
)
def test_statistics_of_batches_are_taken_only_from_random_weights_on(
    weights: str, fine_tuning: bool, learns: bool
) -> None:
    classifier = tiny_classifier(weights=weights)
    before = statistics(classifier)
    images = inputs_of(classifier.spec)
    classifier.forward(images, training=True, fine_tuning=fine_tuning)
    changed = [not np.array_equal(a, b) for a, b in zip(statistics(classifier), before, strict=True)]
    assert changed == [learns, learns]


def test_no_gradient_goes_through_a_frozen_backbone() -> None:
    classifier = tiny_classifier()
    images = inputs_of(classifier.spec)
    for fine_tuning in (False, True):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(classifier.forward(images, training=True, fine_tuning=fine_tuning) ** 2)
        gradients = tape.gradient(loss, classifier.trainable_variables(True))
        reached = [gradient is not None for gradient in gradients]
        assert reached == [fine_tuning] * 4 + [True] * 2


def test_a_frozen_step_is_the_backbones_inference_and_no_more() -> None:
    classifier = tiny_classifier()
    assert classifier.backbone is not None

    @tf.function
    def step(images: tf.Tensor) -> list[tf.Tensor]:
        head = classifier.trainable_variables(False)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(classifier.forward(images, training=True, fine_tuning=False) ** 2)
        return list(tape.gradient(loss, head))

    graph = step.get_concrete_function(tf.TensorSpec([None, 4, 4, 3])).graph
    kinds = [operation.type for operation in graph.get_operations()]
    assert kinds.count("Conv2D") == 2
    assert not [kind for kind in kinds if kind.startswith("Conv2DBackprop")]


def test_the_model_is_the_forward_pass_without_training() -> None:
    classifier = stirred(tiny_classifier(dropout=0.5))
    images = inputs_of(classifier.spec)
    expected = classifier.forward(images, training=False, fine_tuning=True)
    assert np.array_equal(classifier.model(images, training=False), expected)
    assert classifier.model.output_shape == (None, CLASSES)


def test_says_what_is_trained() -> None:
    assert describe(build_classifier(HEAD, labels=5)) == "head, 63 parameters, all trained"
    assert describe(tiny_classifier()) == "tiny, 408 parameters: 18 trained, 388 when fine-tuning"


def test_an_unknown_model_is_refused_with_those_that_are_near() -> None:
    with pytest.raises(OptionError, match=r"inceptoin_v3.*inception_v3"):
        build_classifier(ModelSpec(name="inceptoin_v3", image_size=299), labels=5)


def test_a_backbone_on_pictures_of_another_size_is_refused() -> None:
    with pytest.raises(OptionError, match=r"--image_size 224 .* of 299 pixels"):
        check_model(resolve({"dataset": "dataset", "model": "inception_v3", "image_size": 224}))


@pytest.mark.parametrize(
    "given",
    [
        {"model": "head"},
        {"model": "small_cnn", "image_size": 64},
        {"model": "inception_v3", "image_size": 299},
    ],
)
def test_a_model_that_goes_with_the_other_options_is_taken(given: dict[str, object]) -> None:
    options = resolve({"dataset": "dataset", **given})
    check_model(options)
    assert ModelSpec.of(options).image_size == options.image_size


def test_models_are_checked_without_tensorflow() -> None:
    code = "import sys, trainer.classifier; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.slow
def test_the_paths_of_a_backbones_variables_do_not_depend_on_what_was_built_before() -> None:
    spec = ModelSpec(name="efficientnet_v2_b0", weights="none", image_size=224, dropout=0.2)
    first, second = (build_classifier(spec, labels=5, seed=3) for _ in range(2))
    assert [v.path for v in first.model.variables] == [v.path for v in second.model.variables]
    assert are_equal(first, second)
