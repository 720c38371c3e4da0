"""What is trained: a small network of its own, a head on embeddings, or a backbone with a head.

Each is a Keras model of inputs to logits, float32 whatever the dtype policy. Images are float32 RGB in 0..255; what a
model does with them first is inside it. Weights, dropout and the paths of all variables follow from the options and the
seed alone, in every process and whatever was built before. TensorFlow and Keras are imported when a model is built.
"""

import contextlib
import dataclasses
import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from beam_pipelines.errors import OptionError
from trainer.models import BACKBONES, NO_WEIGHTS, backbone_layers, build_backbone
from trainer.options import HEAD, SMALL_CNN, TrainingOptions, model_defaults

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# Filters, pixels of a side of the kernel, stride; where the stride is 1, a pooling halves the sides.
_SMALL_CNN_CONVOLUTIONS = ((32, 5, 2), (64, 5, 1), (128, 3, 1))
# Batch normalisation that learns its statistics follows them within tens of steps: with the backbones' own momentum,
# up to 0.999, they would still be those of the random weights when a short run is over.
_MOMENTUM_FROM_SCRATCH = 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What is to be built; see `TrainingOptions`.

    Attributes:
        name: `small_cnn`, `head` or a backbone's.
        weights: of a backbone: `imagenet`, `none` or a path.
        image_size: pixels of a side of the square; 0 for `head`.
        width: of the embeddings; 0 for images.
        hidden_units: units of each layer between the vector and the classes.
        dropout: part of each hidden layer's units that is dropped; without such layers, of the vector.
        unfreeze_layers: how many of the backbone's last layers fine-tuning trains; 0 for all.
    """

    name: str
    weights: str = NO_WEIGHTS
    image_size: int = 0
    width: int = 0
    hidden_units: tuple[int, ...] = ()
    dropout: float = 0.0
    unfreeze_layers: int = 0

    @classmethod
    def of(cls, options: TrainingOptions, *, width: int = 0) -> "ModelSpec":
        """Returns the model that the options ask for, on embeddings of `width` if it is `head`."""
        return cls(
            name=options.model,
            weights=options.weights,
            image_size=options.image_size,
            width=width,
            hidden_units=options.hidden_units,
            dropout=options.dropout,
            unfreeze_layers=options.unfreeze_layers,
        )

    @property
    def is_from_scratch(self) -> bool:
        """Whether a whole backbone learns from random weights, so that batch normalisation has to learn too."""
        return self.name not in (HEAD, SMALL_CNN) and self.weights == NO_WEIGHTS and self.unfreeze_layers == 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classifier:
    """A model, and the parts of it that training tells apart.

    Attributes:
        model: inputs to logits, float32 [batch, classes]; for evaluation and export. A backbone inside it always runs
            in inference mode.
        head: features to logits; of models without a backbone, the model itself.
        backbone: images to features, float [batch, width]; None if there is none.
        spec: what was asked for.
    """

    model: "keras.Model"
    head: "keras.Model"
    backbone: "keras.Model | None"
    spec: ModelSpec

    def forward(self, inputs: "tf.Tensor", *, training: bool, fine_tuning: bool) -> "tf.Tensor":
        """Returns the logits, float32 [batch, classes].

        While the backbone is frozen it runs in inference mode, and no gradient goes through it.

        Args:
            inputs: images, float32 [batch, size, size, 3] in 0..255, or embeddings, float32 [batch, width].
            training: whether to drop units.
            fine_tuning: whether the backbone is trained too.
        """
        import tensorflow as tf

        if self.backbone is None:
            return self.model(inputs, training=training)
        features = self.backbone(inputs, training=training and fine_tuning)
        if not fine_tuning:
            features = tf.stop_gradient(features)
        return self.head(features, training=training)

    def trainable_variables(self, fine_tuning: bool) -> "list[keras.Variable]":
        """Returns what is trained: the head's variables, and before them those of the backbone if `fine_tuning`.

        Args:
            fine_tuning: whether the backbone is trained: its last `unfreeze_layers` layers that can be, or all. Batch
                normalisation is left alone, unless the whole backbone learns from random weights.
        """
        head: list[keras.Variable] = self.head.trainable_variables
        if self.backbone is None or not fine_tuning:
            return list(head)
        layers = [layer for layer in backbone_layers(self.backbone) if layer.trainable_variables]
        tuned = layers[-self.spec.unfreeze_layers :]
        return [*(variable for layer in tuned for variable in layer.trainable_variables), *head]


def check_model(options: TrainingOptions) -> None:
    """Raises OptionError for a model that does not go with the other options; without TensorFlow."""
    defaults = model_defaults(options.model)
    if options.model in BACKBONES and options.image_size != defaults.image_size:
        raise OptionError(
            f"--image_size {options.image_size} is not that of {options.model}, which takes pictures of "
            f"{defaults.image_size} pixels: leave it out"
        )


def build_classifier(spec: ModelSpec, *, labels: int, seed: int = 0, pretrained: bool = True) -> Classifier:
    """Builds a classifier inside the `tf.distribute` scope and the dtype policy that the caller has set.

    Args:
        spec: what to build.
        labels: how many classes.
        seed: of the weights and of dropout.
        pretrained: whether a backbone gets the weights that `spec` names; otherwise it has random ones, for a
            checkpoint to fill in, and neither a network nor a file is needed.

    Raises:
        OptionError: there is no such model or backbone, or no such weights.
    """
    model_defaults(spec.name)
    with _fresh_names():
        if spec.name == HEAD:
            model = _head(spec, width=spec.width, labels=labels, seed=seed)
            return Classifier(model=model, head=model, backbone=None, spec=spec)
        if spec.name == SMALL_CNN:
            model = _small_cnn(spec, labels=labels, seed=seed)
            return Classifier(model=model, head=model, backbone=None, spec=spec)
        backbone = build_backbone(spec.name, weights=spec.weights if pretrained else NO_WEIGHTS, seed=seed)
        return put_head_on(backbone, spec, labels=labels, seed=seed)


def put_head_on(backbone: "keras.Model", spec: ModelSpec, *, labels: int, seed: int = 0) -> Classifier:
    """Builds a classifier of a backbone, images to float [batch, width], whose batch normalisation it settles."""
    import keras

    for layer in backbone_layers(backbone):
        if isinstance(layer, keras.layers.BatchNormalization):
            _settle_batch_normalisation(layer, learns=spec.is_from_scratch)
    head = _head(spec, width=backbone.output_shape[-1], labels=labels, seed=seed)
    pixels = keras.Input(backbone.input_shape[1:], dtype="float32", name="images")
    model = keras.Model(pixels, head(backbone(pixels, training=False)), name="classifier")
    return Classifier(model=model, head=head, backbone=backbone, spec=spec)


def describe(classifier: Classifier) -> str:
    """Returns a line for people: the model, its parameters and how many of them are trained, when.

    For example `inception_v3, 21,823,274 parameters: 20,490 trained, 21,788,842 when fine-tuning`.
    """
    total = f"{classifier.spec.name}, {_parameters(classifier.model.weights):,} parameters"
    if classifier.backbone is None:
        return f"{total}, all trained"
    head, tuned = (_parameters(classifier.trainable_variables(fine_tuning)) for fine_tuning in (False, True))
    return f"{total}: {head:,} trained, {tuned:,} when fine-tuning"


def _small_cnn(spec: ModelSpec, *, labels: int, seed: int) -> "keras.Model":
    """Returns three plain convolutions, each of which halves the sides, on pictures of zero mean and unit variance.

    The classes are read off the flattened positions: the things in pictures of one kind mostly stand alike, and a mean
    over positions takes far more steps to learn from.
    """
    import keras

    inputs = keras.Input((spec.image_size, spec.image_size, 3), dtype="float32", name="images")
    outputs = keras.layers.LayerNormalization(axis=[1, 2, 3], center=False, scale=False, name="standardised")(inputs)
    for number, (filters, kernel, stride) in enumerate(_SMALL_CNN_CONVOLUTIONS, start=1):
        name = f"convolution_{number}"
        outputs = keras.layers.Conv2D(
            filters,
            kernel,
            strides=stride,
            padding="same",
            activation="relu",
            kernel_initializer=keras.initializers.HeUniform(seed=_seed_of(name, seed)),
            name=name,
        )(outputs)
        if stride == 1:
            outputs = keras.layers.MaxPooling2D(name=f"pooling_{number}")(outputs)
    features = keras.layers.Flatten(name="features")(outputs)
    return keras.Model(inputs, _logits(features, spec, labels=labels, seed=seed), name=SMALL_CNN)


def _head(spec: ModelSpec, *, width: int, labels: int, seed: int) -> "keras.Model":
    import keras

    features = keras.Input((width,), dtype="float32", name="features")
    return keras.Model(features, _logits(features, spec, labels=labels, seed=seed), name=HEAD)


def _logits(features: Any, spec: ModelSpec, *, labels: int, seed: int) -> Any:
    """Returns the logits of features [batch, width]: hidden layers, dropout and the layer of the classes.

    That layer begins at 0, so that all classes are alike at first, whatever the size of the features.
    """
    import keras

    for number, units in enumerate(spec.hidden_units, start=1):
        name = f"hidden_{number}"
        initializer = keras.initializers.HeUniform(seed=_seed_of(name, seed))
        hidden = keras.layers.Dense(units, activation="relu", kernel_initializer=initializer, name=name)
        features = _dropout(hidden(features), spec.dropout, name=f"dropout_{number}", seed=seed)
    if not spec.hidden_units:
        features = _dropout(features, spec.dropout, name="dropout", seed=seed)
    return keras.layers.Dense(labels, kernel_initializer="zeros", dtype="float32", name="logits")(features)


def _dropout(features: Any, rate: float, *, name: str, seed: int) -> Any:
    import keras

    return keras.layers.Dropout(rate, seed=_seed_of(name, seed), name=name)(features)


def _settle_batch_normalisation(layer: "keras.layers.BatchNormalization", *, learns: bool) -> None:
    """Has a layer learn, from the batches of all replicas together, or keep what it has learned before."""
    layer.trainable = learns
    if learns:
        layer.synchronized = True
        layer.momentum = min(layer.momentum, _MOMENTUM_FROM_SCRATCH)


def _seed_of(name: str, seed: int) -> int:
    """Returns a seed of 31 bits for one layer."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big") >> 1


def _parameters(variables: "Iterable[keras.Variable]") -> int:
    return sum(math.prod(variable.shape) for variable in variables)


@contextlib.contextmanager
def _fresh_names() -> Iterator[None]:
    """Numbers what is built in the block and has no name of its own from 1 on, whatever was built before.

    Keras numbers them throughout the process, and the paths of variables, by which checkpoints know them, have these
    names. A seed generator cannot be given one.
    """
    from keras.src.backend.common import global_state

    numbers = "object_name_uids"
    before = global_state.get_global_attribute(numbers)
    global_state.set_global_attribute(numbers, defaultdict(int))
    try:
        yield
    finally:
        global_state.set_global_attribute(numbers, before)
