"""Oxford Flowers-102 (Nilsback & Zisserman, 2008), through torchvision."""

from __future__ import annotations

from sgid.data.listing import Splits
from sgid.data.sources.files import torchvision_files
from sgid.data.sources.home import Home

HOME = Home(
    option="flowers",
    title="Flowers-102",
    size="345 MB",
    folder="flowers-102",
    layout="""\
ROOT/flowers-102/jpg/image_00001.jpg ...
ROOT/flowers-102/imagelabels.mat
ROOT/flowers-102/setid.mat""",
    elsewhere="All three are at www.robots.ox.ac.uk/~vgg/data/flowers/102; jpg/ is 102flowers.tgz.",
    hub="dpdl-benchmark/oxford_flowers102 dataset.noun=flower",
)
# The set itself numbers its classes only. Torchvision has these names from 0.22 on.
NAMES = """
pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger lily,
moon orchid, bird of paradise, monkshood, globe thistle, snapdragon, colt's foot, king protea,
spear thistle, yellow iris, globe-flower, purple coneflower, peruvian lily, balloon flower,
giant white arum lily, fire lily, pincushion flower, fritillary, red ginger, grape hyacinth,
corn poppy, prince of wales feathers, stemless gentian, artichoke, sweet william, carnation,
garden phlox, love in the mist, mexican aster, alpine sea holly, ruby-lipped cattleya, cape flower,
great masterwort, siam tulip, lenten rose, barbeton daisy, daffodil, sword lily, poinsettia,
bolero deep blue, wallflower, marigold, buttercup, oxeye daisy, common dandelion, petunia,
wild pansy, primula, sunflower, pelargonium, bishop of llandaff, gaura, geranium, orange dahlia,
pink-yellow dahlia, cautleya spicata, japanese anemone, black-eyed susan, silverbush,
californian poppy, osteospermum, spring crocus, bearded iris, windflower, tree poppy, gazania,
azalea, water lily, rose, thorn apple, morning glory, passion flower, lotus, toad lily, anthurium,
frangipani, clematis, hibiscus, columbine, desert-rose, tree mallow, magnolia, cyclamen, watercress,
canna lily, hippeastrum, bee balm, ball moss, foxglove, bougainvillea, camellia, mallow,
mexican petunia, bromelia, blanket flower, trumpet creeper, blackberry lily
"""


def flowers(root: str | None, download: bool = False) -> Splits:
    """102 flowers; 10 images of each to train, 10 to validate, the other 6,149 to test.

    Raises:
        FileNotFoundError: if it is not there, is not the original, or cannot be fetched.
        ValueError: if its lists do not fit together.
    """
    from torchvision.datasets import Flowers102

    names = [name.strip() for name in NAMES.split(",")]
    return torchvision_files(
        HOME,
        Flowers102,
        root,
        download=download,
        images="jpg",
        splits={
            "train": {"split": "train"},
            "validation": {"split": "val"},
            "test": {"split": "test"},
        },
        names=lambda made: names[: max(made._labels) + 1],
    )
