"""Write 300 photographs in four classes, cut from those of scikit-image, to try a recipe on.

    python make_photos.py photos
    foveal train photos.transnext_atto --data photos

Every image is a square of another place, size, angle and brightness. Those of a class come from one photograph, so the
accuracy says that the recipe learns, and nothing about networks.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance
from skimage import data

PHOTOGRAPHS = {"astronaut": data.astronaut, "cat": data.chelsea, "coffee": data.coffee, "rocket": data.rocket}
PER_CLASS, SIDE = 75, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write CLASS/NUMBER.jpg")
    folder = parser.parse_args().folder
    random = np.random.default_rng(0)
    for name, photograph in PHOTOGRAPHS.items():
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        whole = Image.fromarray(photograph())
        for number in range(PER_CLASS):
            cut(whole, random).save(place / f"{number:03d}.jpg", quality=90)
    print(f"{PER_CLASS * len(PHOTOGRAPHS)} photographs in {len(PHOTOGRAPHS)} classes: {folder}")


def cut(photograph: Image.Image, random: np.random.Generator) -> Image.Image:
    """Return a square of the photograph, from a third to nine tenths of its short side, turned by up to 20 degrees."""
    turned = photograph.rotate(random.uniform(-20, 20), Image.Resampling.BICUBIC)
    side = int(min(turned.size) * random.uniform(1 / 3, 0.9))
    left, top = (int(random.integers(0, length - side + 1)) for length in turned.size)
    square = turned.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return ImageEnhance.Brightness(square).enhance(random.uniform(0.6, 1.4))


if __name__ == "__main__":
    main()
