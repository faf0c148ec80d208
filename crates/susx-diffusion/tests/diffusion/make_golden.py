#!/usr/bin/env python3
"""Makes the golden files of this folder, the results of `diffusers`.

    python make_golden.py

It needs numpy, onnx, onnxruntime, pillow, tokenizers, torch (any CPU build), diffusers 0.31.0, transformers 4.46.3 and
ftfy; the tests need them only to build the pipelines. Nothing is shared with the Rust code: the
schedulers and the pipeline are those of diffusers, the tokenizer and the preprocessing those of transformers, and the
noise is computed by the description in crates/susx-diffusion/src/noise.rs.

* `schedulers.json`: for many configurations the timesteps, the sigmas, and some latents after every step.
* `noise.json`: the first numbers of some seeds.
* `images.json` and the PNG files: images of the pipelines of tests/models/tiny_diffusion.py.
"""

import itertools
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import diffusers
import ftfy  # noqa: F401  Without it transformers says nothing, and cuts words otherwise than OpenAI's tokenizer.
import numpy as np
import onnxruntime
import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
BUILDER = HERE.parents[3] / "tests/models/tiny_diffusion.py"


# ---------------------------------------------------------------------------------------------------------
# Schedulers.

# The initial latents, and a substitute for the U-Net.
LATENTS = np.array([-2.5, -0.4, 0.2, 1.3])


def predict(scaled, timestep):
    """A substitute for a U-Net: bounded, and different at every level."""
    return 0.8 * np.sin(2 * scaled + 0.01 * timestep) + 0.1 * scaled


SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LINEAR = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}


def configurations():
    """Configurations and the numbers of steps that they are run with."""
    classes = ["PNDMScheduler", "DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"]
    predictions, spacings = ["epsilon", "v_prediction"], ["leading", "trailing", "linspace"]
    for (i, name), prediction, spacing in itertools.product(enumerate(classes), predictions, spacings):
        config = {"_class_name": name, **SD, "prediction_type": prediction, "timestep_spacing": spacing, "steps_offset": 1}
        if name == "PNDMScheduler":
            config["skip_prk_steps"] = True
        if name == "DDIMScheduler":
            config |= {"clip_sample": False, "set_alpha_to_one": spacing == "trailing"}
        yield config, [1, 2, 3, 7, 20] if prediction == "epsilon" else [4, 25]
    # Stable Diffusion 1.4's own file, with the steps of the paper.
    yield {"_class_name": "PNDMScheduler", **SD, "num_train_timesteps": 1000, "set_alpha_to_one": False,
           "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None, "clip_sample": False}, [50, 85]
    # Fields that are left out have the defaults of the class, clipping included.
    yield {"_class_name": "DDIMScheduler", **LINEAR}, [1, 10]
    yield {"_class_name": "DDIMScheduler"}, [6]
    yield {"_class_name": "DDIMScheduler", **SD, "prediction_type": "sample", "clip_sample_range": 0.5}, [6]
    yield {"_class_name": "DDIMScheduler", **SD, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
           "timestep_spacing": "trailing", "clip_sample": False}, [5, 11]
    yield {"_class_name": "PNDMScheduler", **LINEAR, "skip_prk_steps": True, "set_alpha_to_one": True}, [9]
    for name in classes[2:]:
        yield {"_class_name": name}, [6]
        yield {"_class_name": name, **SD, "use_karras_sigmas": True}, [1, 8, 20]
        yield {"_class_name": name, **SD, "final_sigmas_type": "sigma_min"}, [6, 20]
        yield {"_class_name": name, **SD, "prediction_type": "sample"}, [6]
        yield {"_class_name": name, **SD, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
               "timestep_spacing": "trailing"}, [5]
        yield {"_class_name": name, "num_train_timesteps": 10, "trained_betas": [0.01 * (i + 1) for i in range(10)]}, [4]
    for more in ({"solver_order": 1}, {"solver_type": "heun"}, {"euler_at_final": True, "final_sigmas_type": "sigma_min"},
                 {"lower_order_final": False, "final_sigmas_type": "sigma_min"}, {"solver_type": "heun", "final_sigmas_type": "sigma_min"}):
        yield {"_class_name": classes[3], **SD, "timestep_spacing": "leading", "steps_offset": 1} | more, [6, 16]
    # A file that was converted between classes has fields of the others.
    yield {"_class_name": classes[3], **SD, "skip_prk_steps": True, "set_alpha_to_one": False, "clip_sample": False,
           "interpolation_type": "linear", "solver_type": "bh2", "thresholding": False, "use_karras_sigmas": False}, [6]


def rounded(values):
    return [float(f"{value:.7g}") for value in np.asarray(values, np.float64)]


def schedulers():
    cases = []
    for config, counts in configurations():
        for steps in counts:
            scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
            scheduler.set_timesteps(steps)
            sample = torch.from_numpy(LATENTS * float(scheduler.init_noise_sigma)).float()
            after = []
            for timestep in scheduler.timesteps:
                scaled = scheduler.scale_model_input(sample, timestep)
                prediction = predict(scaled.numpy().astype(np.float64), float(timestep))
                sample = scheduler.step(torch.from_numpy(prediction).float(), timestep, sample).prev_sample
                after.append(rounded(sample))
            has_sigmas = config["_class_name"] in ("EulerDiscreteScheduler", "DPMSolverMultistepScheduler")
            cases.append({
                "config": config, "steps": steps, "init_noise_sigma": float(scheduler.init_noise_sigma),
                "timesteps": rounded(scheduler.timesteps), "sigmas": rounded(scheduler.sigmas) if has_sigmas else [],
                "alphas_cumprod": rounded(scheduler.alphas_cumprod[[0, 1, len(scheduler.alphas_cumprod) // 2, -2, -1]]),
                "after": after})
    with open(HERE / "schedulers.json", "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    print(f"{len(cases)} runs of schedulers")


# ---------------------------------------------------------------------------------------------------------
# Noise.

def chacha20(key, blocks):
    """The key stream of a number of blocks, as 64-bit numbers. As in the original paper: 64-bit counter, nonce 0."""
    state = np.zeros((16, blocks), np.uint32)
    state[:4] = np.frombuffer(b"expand 32-byte k", "<u4")[:, None]
    state[4:12] = np.frombuffer(key, "<u4")[:, None]
    state[12] = np.arange(blocks)
    x = state.copy()

    def rotate(values, bits):
        return (values << np.uint32(bits)) | (values >> np.uint32(32 - bits))

    def quarter(a, b, c, d):
        x[a] += x[b]; x[d] = rotate(x[d] ^ x[a], 16)
        x[c] += x[d]; x[b] = rotate(x[b] ^ x[c], 12)
        x[a] += x[b]; x[d] = rotate(x[d] ^ x[a], 8)
        x[c] += x[d]; x[b] = rotate(x[b] ^ x[c], 7)

    for _ in range(10):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return (x + state).T.astype("<u4").tobytes()


def normal(seed, count):
    stream = np.frombuffer(chacha20(seed.to_bytes(8, "little") + bytes(24), count // 4 + 1), "<u8")
    numbers = []
    for n, m in stream.reshape(-1, 2).tolist():
        radius = math.sqrt(-2 * math.log(((n >> 11) + 1) / 2**53))
        angle = 2 * math.pi * ((m >> 11) / 2**53)
        numbers += [radius * math.cos(angle), radius * math.sin(angle)]
    return np.array(numbers[:count], np.float32)


def noise():
    # Of the original paper's authors, for a key and a nonce of zeros.
    assert chacha20(bytes(32), 1).hex().startswith("76b8e0ada0f13d90405d6ae55386bd28")
    seeds = [0, 1, 42, 2**32, 2**64 - 1]
    values = {str(seed): [float(f"{value:.9g}") for value in normal(seed, 37)] for seed in seeds}
    (HERE / "noise.json").write_text(json.dumps(values, indent=1) + "\n")


# ---------------------------------------------------------------------------------------------------------
# Images.

class Graph(diffusers.OnnxRuntimeModel):
    """A graph as diffusers runs it, with the values in the types and shapes that the graph was exported for."""

    def __call__(self, **values):
        rows, inputs = None, {}
        for port in self.model.get_inputs():
            value = np.asarray(values[port.name])
            kind = {"tensor(float)": "f4", "tensor(float16)": "f2", "tensor(int64)": "i8", "tensor(int32)": "i4"}[port.type]
            if port.name == "timestep":
                value = value.reshape([1] if port.shape else [])
            elif isinstance(port.shape[0], int):
                # As many rows as it was exported for.
                rows = len(value)
                value = np.concatenate([value] + [value[:1]] * (port.shape[0] - rows))
            inputs[port.name] = value.astype(kind)
        outputs = self.model.run(None, inputs)
        return [value[:rows].astype(np.float32) if value.dtype != bool else value for value in outputs]


def pipeline(folder, checked):
    def graph(name):
        path = folder / name / "model.onnx"
        return Graph(onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]))

    config = json.loads((folder / "scheduler/scheduler_config.json").read_text())
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    # The slow tokenizer and both vocabulary files: none of it is what the Rust code reads.
    extractor = transformers.CLIPImageProcessor.from_pretrained(folder / "feature_extractor") if checked else None
    pipeline = diffusers.OnnxStableDiffusionPipeline(
        vae_encoder=None, vae_decoder=graph("vae_decoder"), text_encoder=graph("text_encoder"), tokenizer=tokenizer,
        unet=graph("unet"), scheduler=getattr(diffusers, config["_class_name"]).from_config(config),
        safety_checker=graph("safety_checker") if checked else None, feature_extractor=extractor,
        requires_safety_checker=checked)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


CASES = [
    {"variant": "pndm", "prompt": "a photo of a cat.", "seed": 1, "steps": 12},
    {"variant": "pndm", "prompt": "A  Photo of the  HOUSE; naïve café 東京, don't!", "negative_prompt": "a dog",
     "seed": 2**63 + 11, "steps": 7, "guidance_scale": 3.0},
    {"variant": "pndm", "prompt": "a very long text " * 40, "seed": 3, "steps": 5, "guidance_scale": 0.0, "width": 96},
    {"variant": "pndm", "prompt": "one step", "seed": 4, "steps": 1},
    {"variant": "velocity", "prompt": "a drawing of the garden", "negative_prompt": "rain", "seed": 5, "steps": 10,
     "guidance_scale": 5.0},
    {"variant": "half", "prompt": "a close-up photo of the small red flower", "seed": 6, "steps": 8},
    {"variant": "fixed", "prompt": "a black and white picture of an old car", "seed": 7, "steps": 9, "guidance_scale": 4.0},
    {"variant": "fixed", "prompt": "25 oranges", "seed": 8, "steps": 20, "guidance_scale": 1.0},
    *({"variant": "checked", "prompt": "lemons on the table", "seed": seed, "steps": 3} for seed in range(8))]


def images():
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for variant in {case["variant"] for case in CASES}:
            command = [sys.executable, str(BUILDER), str(folder / variant), "--variant", variant]
            subprocess.run(command, check=True)
        for case in CASES:
            case = {"negative_prompt": "", "guidance_scale": 7.5, "height": 64, "width": 64} | case
            checked = case["variant"] == "checked"
            latents = normal(case["seed"], 4 * case["height"] // 8 * case["width"] // 8)
            result = pipeline(folder / case["variant"], checked)(
                case["prompt"], case["height"], case["width"], case["steps"], case["guidance_scale"],
                case["negative_prompt"], latents=latents.reshape(1, 4, case["height"] // 8, case["width"] // 8))
            case["blocked"] = bool(checked and result.nsfw_content_detected[0])
            if not case["blocked"]:
                case["image"] = f"{case['variant']}-{case['seed']}.png"
                result.images[0].save(HERE / case["image"], optimize=True)
            cases.append(case)
            pixels = np.asarray(result.images[0], np.float64)
            print(case["variant"], case["seed"], f"mean {pixels.mean():.1f}, deviation {pixels.std():.1f},",
                  f"at the ends {((pixels == 0) | (pixels == 255)).mean():.3f}", "blocked" if case["blocked"] else "")
    (HERE / "images.json").write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    schedulers()
    noise()
    images()
