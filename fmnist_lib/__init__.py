"""Image classification with PyTorch on Fashion-MNIST: the library under the chapters.

The modules, in the order in which data flows through them::

    files -> data -> augmentation -> models -> events -> config -> acceleration -> optimization
          -> checkpoints -> training -> evaluation -> plotting -> runs -> results -> cards
          -> chapters -> cli

A module imports only from those to its left (and from ``claims``, ``progress`` and ``timing``,
which know of no other but each other). Nothing is imported here, so that ``import fmnist_lib``
costs next to nothing; import what you use from its module, as the chapters do.
"""

__version__ = "0.1.0"
