"""The mistakes of docs/mistakes.md, made in Python on MLX the way mlx-lm and its relatives write models.

    pip install 'mlx[cpu]==0.32.4' numpy
    python tests/reference/mistakes.py > tests/reference/mistakes.txt

Each function makes one mistake. What Python says is printed as it comes; where it says nothing, the gradient that
comes out stands beside the right one. Runs on the CPU; no file is read.
"""

import importlib.metadata
import sys
import types

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np

mx.set_default_device(mx.cpu)

X = mx.array([1.0, 2.0, 3.0])
W = mx.array([4.0, 5.0, 6.0])
RIGHT_X, RIGHT_W = "[4, 5, 6]", "[1, 2, 3]"  # of sum(x w)

MISTAKES = []


def mistake(function):
    MISTAKES.append(function)
    return function


def show(array):
    numbers = ", ".join(f"{value:g}" for value in np.array(array.astype(mx.float32)).ravel())
    return f"[{numbers}]"


def product_with(backward):
    """sum(x w), whose gradient is what `backward` says."""

    @mx.custom_function
    def product(x, w):
        return x * w

    product.vjp(backward)
    return lambda x, w: product(x, w).sum()


def gradients(loss, *arguments):
    found = mx.grad(loss, argnums=tuple(range(len(arguments))))(*arguments)
    mx.eval(found)
    return found


@mistake
def missing_gradient():
    """the backward returns the gradient of x and forgets that of w"""
    found = gradients(product_with(lambda primals, d, _: (d * primals[1],)), X, W)
    return f"d_x = {show(found[0])} (right: {RIGHT_X}), d_w = {show(found[1])} (right: {RIGHT_W})"


@mistake
def wrong_shape():
    """the gradient of w keeps the axis that w was broadcast along"""
    rows = mx.broadcast_to(X, (2, 3))
    backward = lambda primals, d, _: (d * primals[1], d * primals[0])
    found = gradients(product_with(backward), rows, W)
    return f"w is {list(W.shape)}, d_w is {list(found[1].shape)}: {show(found[1])} (right: [2, 4, 6])"


@mistake
def wrong_dtype():
    """the gradient of a bfloat16 weight comes back in float32"""
    weight = W.astype(mx.bfloat16)
    backward = lambda primals, d, _: (d * primals[1], (d * primals[0]).astype(mx.float32))
    found = gradients(product_with(backward), X.astype(mx.bfloat16), weight)
    return f"w is {weight.dtype}, d_w is {found[1].dtype}"


@mistake
def unread_cotangent():
    """of two outputs the backward uses the first one's cotangent alone"""

    @mx.custom_function
    def twice_and_square(x):
        return 2 * x, x * x

    @twice_and_square.vjp
    def backward(primals, cotangents, outputs):
        return 2 * cotangents[0]

    def loss(x):
        twice, square = twice_and_square(x)
        return twice.sum() + square.sum()

    found = mx.grad(loss)(X)
    return f"d_x = {show(found)} (right: [4, 6, 8])"


@mistake
def wrong_sign():
    """the backward has a sign wrong"""
    found = gradients(product_with(lambda primals, d, _: (d * primals[1], -d * primals[0])), X, W)
    return f"d_w = {show(found[1])} (right: {RIGHT_W})"


@mistake
def captured_array():
    """the function with its own gradient reads w from outside"""

    def loss(x, w):
        @mx.custom_function
        def product(x):
            return x * w

        @product.vjp
        def backward(primals, d, _):
            return d * w

        return product(x).sum()

    found = gradients(loss, X, W)
    return f"d_w = {show(found[1])} (right: {RIGHT_W})"


@mistake
def captured_in_checkpoint():
    """a recomputed layer reads its weight from outside"""

    def loss(x, w):
        layer = mx.checkpoint(lambda x: x * w)
        return layer(x).sum()

    found = gradients(loss, X, W)
    return f"d_w = {show(found[1])} (right: {RIGHT_W})"


@mistake
def value_read():
    """a value is read in the middle of the graph"""

    def loss(x):
        largest = x.max().item()
        return (x * largest).sum()

    found = mx.grad(loss)(X)
    return f"d_x = {show(found)} (right: [3, 3, 9])"


@mistake
def through_numpy():
    """an array takes a way through NumPy"""

    def loss(x, w):
        angle = mx.array(np.cos(np.array(w)))
        return (x * angle).sum()

    found = gradients(loss, X, W)
    return f"d_w = {show(found[1])} (right: {show(-X * mx.sin(W))})"


@mistake
def gradient_through_an_index():
    """an index is computed from what trains"""

    def loss(x):
        return mx.take(x * x, mx.argmax(x)).sum()

    return f"d_x = {show(mx.grad(loss)(X))} (right: [0, 0, 6])"


@mistake
def gradient_through_sorting():
    """rows are put in the order of scores that train, as a router of experts does"""

    def loss(scores, values):
        order = mx.argsort(scores)
        return (values[order] * mx.array([1.0, 2.0, 3.0])).sum()

    found = gradients(loss, W, X)
    return f"d_values = {show(found[1])} (right: [1, 2, 3])"


@mistake
def index_as_a_float():
    """an index is multiplied as if it were a number that trains"""

    def loss(x):
        return (mx.argmax(x) * x).sum()

    return f"d_x = {show(mx.grad(loss)(X))}"


@mistake
def cut_by_accident():
    """a cosine that depends on a weight is computed under stop_gradient, with the positions"""

    def loss(x, w):
        cosine = mx.stop_gradient(mx.cos(w))
        return (x * cosine).sum()

    found = gradients(loss, X, W)
    return f"d_w = {show(found[1])} (right: {show(-X * mx.sin(W))})"


@mistake
def kernel_without_a_gradient():
    """a Metal kernel in a training graph"""
    double = mx.fast.metal_kernel(
        name="double",
        input_names=["x"],
        output_names=["y"],
        source="uint i = thread_position_in_grid.x; y[i] = 2 * x[i];",
    )

    def loss(x):
        (y,) = double(
            inputs=[x], grid=(3, 1, 1), threadgroup=(32, 1, 1), output_shapes=[x.shape], output_dtypes=[x.dtype]
        )
        return y.sum()

    return f"d_x = {show(mx.grad(loss)(X))}"


@mistake
def parameter_outside_the_tree():
    """a layer keeps its weight under a name with an underscore"""

    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = mx.zeros(3)
            self._weight = W

        def __call__(self, x):
            return x * self._weight + self.bias

    model = Scale()
    _, found = nn.value_and_grad(model, lambda model: model(X).sum())(model)
    return f"gradients of {sorted(found)} (right: of the bias and the weight)"


@mistake
def argument_gained():
    """a function gained an argument, and one of its callers was not changed"""

    def rotate(queries, keys, position_ids):
        return queries, keys

    def layer(queries, keys):
        return rotate(queries, keys)

    return layer(X, W)


@mistake
def patched_after_import():
    """a function is replaced by one with its own gradient after another module imported it"""
    library = types.ModuleType("library")
    library.product = lambda x, w: mx.stop_gradient(x * w)
    model = types.ModuleType("model")
    sys.modules.update(library=library, model=model)
    exec("from library import product\ndef loss(x, w): return product(x, w).sum()", model.__dict__)
    library.product = product_with(lambda primals, d, _: (d * primals[1], d * primals[0]))
    found = gradients(model.loss, X, W)
    return f"d_w = {show(found[1])} (right: {RIGHT_W})"


@mistake
def index_out_of_range():
    """a token is not in the vocabulary"""
    table = mx.array([[1.0], [2.0], [3.0]])
    rows = table[mx.array([0, 3])]
    mx.eval(rows)
    return f"rows of shape {list(rows.shape)}; the second is whatever lies behind the table"


@mistake
def loss_of_an_earlier_step():
    """the loss that is returned was kept from the step before"""
    kept = []

    def loss(w):
        kept.append((X * w).sum())
        return kept[0]

    mx.grad(loss)(W)
    return f"d_w = {show(mx.grad(loss)(W))} (right: {RIGHT_W})"


@mistake
def loss_of_nothing():
    """the loss is computed from a copy that training code made of the weight"""

    def loss(w):
        target = mx.array(w.tolist())
        return (X * target).sum()

    return f"d_w = {show(mx.grad(loss)(W))} (right: {RIGHT_W})"


@mistake
def misspelled_selection():
    """everything is frozen but the two factors of an adapter, one of whose names is written otherwise"""

    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = W
            self.lora_a, self.lora_b = mx.ones(3), mx.ones(3)

        def __call__(self, x):
            return x * (self.weight + self.lora_a * self.lora_b)

    model = Adapted()
    model.freeze()
    model.unfreeze(keys=["lora_A", "lora_b"])
    _, found = nn.value_and_grad(model, lambda model: model(X).sum())(model)
    return f"gradients of {sorted(found)} (right: of lora_a and lora_b)"


@mistake
def two_weights_of_one_name():
    """the parameters of two layers are put into one dictionary, and both have a `weight`"""
    encoder, decoder = {"weight": X}, {"weight": W}
    merged = {**encoder, **decoder}

    def loss(parameters):
        return (3 * parameters["weight"] + 5 * parameters["weight"]).sum()

    found = mx.grad(loss)(merged)
    return f"one gradient, {show(found['weight'])} (right: [3, 3, 3] for the one, [5, 5, 5] for the other)"


@mistake
def tied_under_two_names():
    """head and embedding are one array at the start"""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = W
            self.head = self.embedding

    model = Tied()
    _, found = nn.value_and_grad(model, lambda model: (3 * model.embedding + 5 * model.head).sum())(model)
    optim.SGD(0.1).update(model, found)
    return f"after a step embedding = {show(model.embedding)}, head = {show(model.head)} (right: the same)"


@mistake
def drawn_again():
    """a recomputed layer draws its dropout mask itself"""
    x = mx.ones(8)
    masks = []

    def layer(w):
        masks.append(mx.random.bernoulli(0.5, (8,)))
        return w * masks[-1]

    mx.random.seed(1)
    value, found = mx.value_and_grad(lambda w: mx.checkpoint(layer)(w).sum())(x)
    return f"the loss keeps {show(masks[0])}, d_w is {show(found)} (right: the same)"


@mistake
def not_cleared():
    """gradients are added up for micro-batches, and the sum is not cleared after the step"""
    weight, total = W, mx.zeros(3)
    for _ in range(2):
        total = total + mx.grad(lambda w: (w * w).sum())(weight)
        right = 2 * weight
        weight = weight - 0.1 * total
    return f"the second step's d_w = {show(total)} (right: {show(right)})"


def main():
    print("mlx", importlib.metadata.version("mlx"), "on", mx.default_device())
    for function in MISTAKES:
        print(f"\n{function.__name__}: {function.__doc__}")
        try:
            print(f"  said nothing: {function()}")
        except Exception as error:  # What is raised is the answer.
            message = str(error).split(" at /")[0].strip()
            print(f"  {type(error).__name__}: {message}")


if __name__ == "__main__":
    main()
