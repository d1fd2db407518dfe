#!/usr/bin/env python3
"""Pictures, and the patches that transformers' own processors make of them.

    python make_golden.py OUTPUT --seed 5 [--random N]

OUTPUT/golden.safetensors has

  CASE.frames    u8 [N, H, W, 3]: a picture (N = 1) or the frames of a video
  CASE.grid      i64 [T, H, W] in patches
  CASE.patches   u8: the fast processor's output with the normalisation taken back, which is exact
  CASE.pixel_values  f32: its output itself, for the cases of VALUES
  file.NAME      u8 [H, W, 3]: the pixels of OUTPUT/NAME after `transformers.image_utils.load_image`

and OUTPUT/golden.json the settings of each case, the versions, and tables of `smart_resize`. `--random N` makes N cases of random sizes
instead, for a wider comparison that is not stored.
"""

import argparse
import io
import json
import pathlib
import struct
import zlib

import numpy as np
import PIL
import torch
import torchvision
import transformers
from PIL import Image
from safetensors.numpy import save_file
from transformers.image_utils import load_image
from transformers.models.qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import smart_resize as smart_resize_video

KEYS = dict(patch_size=16, temporal_patch_size=2, merge_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3)

# name: (height, width, least, most, noise)
CASES = {
    "same": (64, 96, 4096, 65536, True),
    "half_even": (48, 80, 1024, 65536, True),
    "half_even_up": (80, 112, 1024, 65536, False),
    "up": (40, 33, 4096, 65536, True),
    "down": (150, 131, 1024, 8192, True),
    "down_smooth": (150, 131, 1024, 8192, False),
    "vertical_first": (240, 66, 1024, 8192, True),
    "one_axis": (64, 70, 1024, 65536, True),
    "thin": (1, 150, 1024, 65536, True),
    "tiny": (3, 5, 1024, 65536, True),
}
VALUES = ("half_even", "odd")
# name: (frames, height, width, least, most). Five frames are two and a half pairs, which round to two.
VIDEOS = {
    "even": (4, 40, 70, 1024, 65536),
    "odd": (5, 33, 64, 4096, 12288),
    "small_frames": (2, 20, 24, 1024, 65536),
    "few_pixels": (3, 32, 32, 8192, 65536),
}
SIZES = [(h, w) for h in (1, 16, 31, 32, 33, 47, 48, 49, 80, 112, 176, 1080, 4000) for w in (16, 32, 48, 80, 150, 199, 1920, 3000)]
LIMITS = [(65536, 16777216), (3136, 1003520), (1024, 8192)]
VIDEO_SIZES = [(n, h, w) for n in (2, 3, 4, 5, 6, 7, 9, 11, 768) for h in (16, 48, 360, 1080) for w in (31, 80, 640, 1920)]
VIDEO_LIMITS = [(4096, 25165824), (131072, 786432)]


def picture(rng, h, w, noise):
    if noise:
        return rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
    y, x = np.mgrid[0:h, 0:w]
    return np.stack([(np.sin(x / 9) * 0.5 + 0.5) * 255, (np.cos(y / 7) * 0.5 + 0.5) * 255, (x + y) % 256], -1).astype(np.uint8)


def keep(name, frames, grid, values, limits, out, info):
    patches = values * 127.5 + 127.5
    assert (patches.round() - patches).abs().max() < 1e-4, name
    out[f"{name}.frames"] = frames
    out[f"{name}.grid"] = grid[0].numpy()
    out[f"{name}.patches"] = patches.round().to(torch.uint8).numpy()
    if name in VALUES:
        out[f"{name}.pixel_values"] = values.numpy()
    info[name] = dict(zip(("shortest_edge", "longest_edge"), limits))


def pictures(rng, cases, out, info):
    for name, (h, w, low, high, noise) in cases.items():
        image = picture(rng, h, w, noise)
        settings = dict(KEYS, size={"shortest_edge": low, "longest_edge": high})
        made = Qwen2VLImageProcessor(**settings)(images=[Image.fromarray(image)], return_tensors="pt")
        keep(name, image[None], made["image_grid_thw"], made["pixel_values"].float(), (low, high), out, info)


def videos(rng, out, info):
    for name, (n, h, w, low, high) in VIDEOS.items():
        frames = np.stack([picture(rng, h, w, True) for _ in range(n)])
        settings = dict(KEYS, size={"shortest_edge": low, "longest_edge": high}, do_sample_frames=False, cap_pixels_per_frame=False)
        made = Qwen3VLVideoProcessor(**settings)(videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)], return_tensors="pt")
        keep(name, frames, made["video_grid_thw"], made["pixel_values_videos"].float(), (low, high), out, info)


def png(kind, depth, rows, extra=()):
    """A PNG file of `rows` (bytes of each row), in forms that Pillow reads and does not write."""
    height, bits = len(rows), {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind] * depth
    width = len(rows[0]) * 8 // bits
    chunk = lambda tag, body: struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *(chunk(tag, body) for tag, body in extra), chunk(b"IDAT", data), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def files(rng):
    """Name and bytes of each file."""
    rgb = picture(rng, 30, 22, False)
    colour = Image.fromarray(rgb)
    alpha = rng.integers(0, 256, (30, 22), dtype=np.uint8)
    alpha[:10] = 0
    rgba = Image.fromarray(np.dstack([rgb, alpha]))
    grey = colour.convert("L")
    palette = colour.quantize(11)
    wide = rng.integers(0, 65536, (9, 8, 4), dtype=np.uint16)
    wide[0, :, 0] = [0, 1, 127, 128, 255, 256, 257, 1000]
    rows16 = lambda channels: [wide[y, :, :channels].astype(">u2").tobytes() for y in range(9)]
    packed = [rng.integers(0, 256, 4, dtype=np.uint8).tobytes() for _ in range(7)]
    cmyk = colour.convert("CMYK")
    yield "rgb.png", encoded(colour, "PNG")
    yield "rgba.png", encoded(rgba, "PNG")
    yield "grey.png", encoded(grey, "PNG")
    yield "grey_alpha.png", encoded(rgba.convert("LA"), "PNG")
    yield "bits.png", encoded(colour.convert("1"), "PNG")
    yield "grey2.png", png(0, 2, packed)
    yield "grey4.png", png(0, 4, packed, [(b"tRNS", b"\0\3")])
    yield "palette.png", encoded(palette, "PNG")
    yield "palette_alpha.png", encoded(palette, "PNG", transparency=bytes([0, 128, 255]))
    yield "palette2.png", png(3, 2, packed, [(b"PLTE", bytes(range(12))), (b"tRNS", b"\0\x80")])
    yield "grey16.png", png(0, 16, rows16(1))
    yield "grey_alpha16.png", png(4, 16, rows16(2))
    yield "rgb16.png", png(2, 16, rows16(3))
    yield "rgb16_transparent.png", png(2, 16, rows16(3), [(b"tRNS", b"\0\1\0\2\0\3")])
    yield "rgba16.png", png(6, 16, rows16(4))
    yield "animated.png", encoded(colour, "PNG", save_all=True, append_images=[colour.rotate(180)])
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"turned{orientation}.png", encoded(colour, "PNG", exif=exif)
    exif[0x0112] = 6
    big = b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x08\0\0\0\0\0\0"
    yield "turned6.jpg", encoded(colour, "JPEG", quality=95, subsampling=0, exif=exif)
    yield "turned8_big_endian.jpg", encoded(colour, "JPEG", quality=95, subsampling=0, exif=big)
    yield "turned6.webp", encoded(colour, "WEBP", lossless=True, exif=exif)
    smooth = Image.fromarray(picture(rng, 90, 70, False))
    yield "q75.jpg", encoded(smooth, "JPEG", quality=75, subsampling=2)
    yield "q95.jpg", encoded(smooth, "JPEG", quality=95, subsampling=0)
    yield "progressive.jpg", encoded(smooth, "JPEG", quality=80, progressive=True)
    yield "grey.jpg", encoded(smooth.convert("L"), "JPEG", quality=90)
    yield "cmyk.jpg", encoded(cmyk, "JPEG", quality=95)
    yield "palette.gif", encoded(palette, "GIF")
    yield "transparent.gif", encoded(palette, "GIF", transparency=2)
    other = palette.rotate(180)
    yield "animated.gif", encoded(palette, "GIF", save_all=True, append_images=[other], duration=50, loop=0)
    yield "offset.gif", offset_gif(encoded(palette.crop((0, 0, 10, 12)), "GIF"), 16, 20, 3, 5)
    yield "offset_transparent.gif", offset_gif(encoded(palette.crop((0, 0, 10, 12)), "GIF", transparency=3), 16, 20, 3, 5)
    yield "lossless.webp", encoded(colour, "WEBP", lossless=True)
    yield "alpha.webp", encoded(rgba, "WEBP", lossless=True, exact=True)
    yield "lossy.webp", encoded(smooth, "WEBP", quality=80)
    yield "animated.webp", encoded(colour, "WEBP", lossless=True, save_all=True, append_images=[colour.rotate(180)])


def offset_gif(data, width, height, left, top):
    """Puts the only frame of a GIF into a larger canvas."""
    data = bytearray(data)
    data[6:10] = struct.pack("<HH", width, height)
    start = 13 + 3 * (2 << (data[10] & 7))
    while data[start] == 0x21:
        start += 2
        while data[start]:
            start += data[start] + 1
        start += 1
    assert data[start] == 0x2C
    data[start + 1 : start + 5] = struct.pack("<HH", left, top)
    return bytes(data)


def table(resize, sizes, limits):
    for low, high in limits:
        for size in sizes:
            try:
                yield [*size, low, high, *resize(*size, factor=32, min_pixels=low, max_pixels=high)]
            except ValueError:
                yield [*size, low, high, None, None]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--random", type=int, default=0)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(args.seed)
    out, info = {}, {}
    cases = CASES
    if args.random:
        low = [1024, 4096, 16384]
        side = lambda: int(rng.integers(3, 400))
        cases = {f"random{i}": (side(), side(), low[i % 3], 4 * low[i % 3], i % 2 == 0) for i in range(args.random)}
    pictures(rng, cases, out, info)
    videos(rng, out, info)
    for name, data in files(rng):
        (args.output / name).write_bytes(data)
        out[f"file.{name}"] = np.array(load_image(str(args.output / name)))
    save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, args.output / "golden.safetensors")
    versions = {m.__name__: m.__version__ for m in (transformers, torch, torchvision, PIL, np)}
    record = {
        "seed": args.seed,
        "versions": versions,
        "cases": info,
        "smart_resize": list(table(smart_resize, SIZES, LIMITS)),
        "smart_resize_video": list(table(smart_resize_video, VIDEO_SIZES, VIDEO_LIMITS)),
    }
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
    (args.output / "golden.json").write_text("{\n" + lines + "\n}\n")
    print(len(info), "cases", versions)


main()
