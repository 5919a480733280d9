"""Pictures by sdrun with their prompts beneath, as one PNG: `contact_sheet.py BIN_FOLDER OUT.png [-m MODEL]`."""
import argparse
import os
import subprocess
import tempfile
import textwrap

from PIL import Image, ImageDraw, ImageFont

PROMPTS = [
    "a red boat under a yellow moon", "a pink house in a meadow at sunset", "three orange fish in the ocean", "a purple star at night",
    "a white heart inside a red circle", "a brown tree to the left of a red house", "a big green triangle on cream",
    "a yellow moon over a white boat at sea", "a blue circle to the left of a green square", "three pink hearts in a green field",
    "a black fish below an orange star", "a yellow house and a green tree",
]
SIDE, COLUMNS, MARGIN, TEXT = 128, 6, 12, 44


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("programs", help="folder of sdrun")
    parser.add_argument("out")
    parser.add_argument("-m", "--model", help="default: the one that ships")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=int, default=1)
    args = parser.parse_args()
    rows, side, text = -(-len(PROMPTS) // COLUMNS), SIDE * args.scale, TEXT * args.scale
    sheet = Image.new("RGB", (MARGIN + COLUMNS * (side + MARGIN), MARGIN + rows * (side + text + MARGIN)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11 * args.scale)
    with tempfile.TemporaryDirectory() as folder:
        model = ["-m", args.model] if args.model else []
        subprocess.run([os.path.join(args.programs, "sdrun"), *model, "-q", "-s", str(args.seed), *PROMPTS, "-o", os.path.join(folder, "p.png")],
                       check=True, stdout=subprocess.DEVNULL)
        for i, prompt in enumerate(PROMPTS):
            x, y = MARGIN + i % COLUMNS * (side + MARGIN), MARGIN + i // COLUMNS * (side + text + MARGIN)
            picture = Image.open(os.path.join(folder, f"p-{i + 1}.png"))
            sheet.paste(picture.resize((side, side), Image.Resampling.NEAREST), (x, y))
            pen.multiline_text((x, y + side + 4), textwrap.fill(prompt, 24), fill=(60, 60, 60), font=font, spacing=2)
    sheet.save(args.out, optimize=True)


if __name__ == "__main__":
    main()
