"""The colorization pipeline: a photograph in, the same photograph in colour out.

`save_pretrained` writes this file into the model's folder with its siblings joined to it, so that
plain diffusers can load it from there.
"""

from collections.abc import Callable
from typing import Any

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from .hints import Hint, certain_influence, hints_by_picture, move_hints, with_references
from .image_processor import ColorizationImageProcessor
from .levels import Levels
from .looks import Look, group_looks, leave_grey
from .margins import Frame
from .mending import Mend, colors_by_picture, read_mend, undo_dials
from .options import ColorizationOptions, generators_by_picture
from .results import ColorizationPipelineOutput, ResultMaker
from .sampling import ChromaDials, ColorSampler, StepReport, color_channels
from .saving import SavingMixin
from .sizes import check_sides, look_resolutions

# What a model does where neither it nor a call says anything else.
_PLAIN_DEFAULTS = {
    "default_num_inference_steps": 20,
    "default_processing_resolution": 128,
    "default_second_look": 1.0,
    "default_num_candidates": 1,
    "default_eta": 0.0,
    "default_temperature": 1.0,
    "default_saturation": 1.0,
    "chroma_coring": 0.0,
    "chroma_texture": 1.0,
    "chroma_balance": 0.0,
}


class ColorizationPipeline(SavingMixin):
    r"""Gives black-and-white photographs their colours; their luminance is kept as it is.

    Args:
        unet ([`ColorizationUNet`] or [`~diffusers.UNet2DModel`]):
            Predicts colour from noisy colour and luminance. A stock `UNet2DModel` takes both
            concatenated. Two output channels are chroma a*b*, three are RGB in [-1, 1].
        scheduler ([`OffsetCosineScheduler`] or a compatible diffusers scheduler, *optional*):
            `None` makes it a one-pass model: the network is called once, with a sample of zeros at
            the last timestep, and returns the clean colour.
        default_num_inference_steps: steps when a call gives none.
        default_processing_resolution: short side of the working picture when a call gives none.
        default_second_look: how many times as fine the second look at a picture is when a call
            gives none; 1 for no second look.
        default_num_candidates: colourings drawn for each result when a call gives none.
        default_eta: share of fresh noise in each step when a call gives none.
        default_temperature: scale of all noise when a call gives none.
        default_saturation: positive factor on chroma that a call's `saturation` multiplies.
        chroma_balance: how far, as a share of it, chroma that three or more candidates are sure of
            is toned down before that, and chroma that they are not sure of is made stronger
            (`balance_factor`); 0 changes nothing.
        chroma_texture: the factor by which fine and faint variation of chroma is then made stronger
            (`lift_texture`); 1 changes nothing.
        chroma_coring: the C* of which half is then taken back; of stronger chroma, less is taken
            (`core_chroma`). Hints come out as given in spite of all four.

    An option that is not given is what it was in the first pipeline that held the network, so that
    `ColorizationPipeline(**pipe.components)` is the same model; otherwise 20 steps, 128 pixels, one
    look, one candidate, `eta` 0, and nothing that changes what the network says.

    Example:

    ```python
    >>> from PIL import Image
    >>> from pipeline_colorize import ColorizationPipeline

    >>> pipe = ColorizationPipeline.from_pretrained("default")
    >>> pipe(Image.open("photograph.jpg")).images[0].save("colorized.png")
    ```
    """

    model_cpu_offload_seq = "unet"
    _optional_components = ["scheduler"]
    _callback_tensor_inputs = ["latents", "pred_original_sample", "chroma"]

    def __init__(
        self,
        unet,
        scheduler=None,
        default_num_inference_steps: int | None = None,
        default_processing_resolution: int | None = None,
        default_second_look: float | None = None,
        default_num_candidates: int | None = None,
        default_eta: float | None = None,
        default_temperature: float | None = None,
        default_saturation: float | None = None,
        chroma_coring: float | None = None,
        chroma_texture: float | None = None,
        chroma_balance: float | None = None,
    ):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(
            **_with_defaults(
                unet,
                default_num_inference_steps=default_num_inference_steps,
                default_processing_resolution=default_processing_resolution,
                default_second_look=default_second_look,
                default_num_candidates=default_num_candidates,
                default_eta=default_eta,
                default_temperature=default_temperature,
                default_saturation=default_saturation,
                chroma_coring=chroma_coring,
                chroma_texture=chroma_texture,
                chroma_balance=chroma_balance,
            )
        )
        config = unet.config
        chroma_stride = getattr(config, "chroma_stride", 1)
        levels = len(config.block_out_channels) - 1 if hasattr(config, "block_out_channels") else 0
        stride = getattr(unet, "stride", chroma_stride * 2**levels)
        doubtful = getattr(config, "doubtful_hints", False)
        self.image_processor = ColorizationImageProcessor(chroma_stride, stride, doubtful)

    # --- checks -----------------------------------------------------------------------------------

    def check_inputs(
        self,
        options: ColorizationOptions,
        hints: list[list[Hint]],
        tensor_inputs: list[str],
        mends: bool = False,
    ) -> None:
        """Refuse what this model cannot do; the options themselves are checked already.

        Raises:
            ValueError: which names the argument.
        """
        one_pass = self.scheduler is None
        if options.second_look > 1 and (one_pass or color_channels(self.unet) != 2):
            raise ValueError(
                "Only a model that denoises chroma has a second look: `second_look` must be 1."
            )
        if mends and (one_pass or color_channels(self.unet) != 2):
            raise ValueError(
                "Only a model that denoises chroma mends colours: this one takes no `color_image`."
            )
        if options.strength < 1 and not mends:
            raise ValueError("`strength` is that of a change of `color_image`, which is missing.")
        if options.output_intermediates and one_pass:
            raise ValueError("A one-pass model has no intermediate steps to return.")
        if any(hints) and not self._takes_hints:
            raise ValueError(
                "This model takes no colour hints: its `hint_channels` is 0. The model 'default' "
                "takes them."
            )
        unknown = set(tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(
                f"`callback_on_step_end_tensor_inputs` may name {self._callback_tensor_inputs}, "
                f"not {sorted(unknown)}."
            )

    @property
    def _takes_hints(self) -> bool:
        return bool(getattr(self.unet.config, "hint_channels", 0))

    # --- the call ---------------------------------------------------------------------------------

    @torch.no_grad()
    def __call__(
        self,
        image,
        num_inference_steps: int | None = None,
        num_samples: int = 1,
        num_candidates: int | None = None,
        eta: float | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        processing_resolution: int | None = None,
        second_look: float | None = None,
        match_input_resolution: bool = True,
        hints: list[Hint] | list[list[Hint]] | None = None,
        color_image=None,
        mask_image=None,
        strength: float = 1.0,
        reference_images=None,
        saturation: float = 1.0,
        temperature: float | None = None,
        batch_size: int | None = None,
        output_type: str = "pil",
        output_uncertainty: bool = False,
        output_intermediates: bool = False,
        find_margins: bool = True,
        callback_on_step_end: Callable | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: list[str] | None = None,
        return_dict: bool = True,
    ) -> ColorizationPipelineOutput | tuple:
        r"""Colorize one picture or several.

        Args:
            image: a PIL picture, an array (H, W[, C]) or a tensor ([C, ]H, W), a list of these
                (their sizes may differ), or a batch. A PIL picture is turned upright by its EXIF
                orientation and brought to sRGB by its colour profile. Only the luminance of
                colour input is used. What transparency hides decides nothing; the result is
                opaque, and shows in its place the light of what lies around.
            num_inference_steps: denoising steps; `None` is the model's default.
            num_samples: results for each picture, from the coolest to the warmest where each is
                made of three candidates or more.
            num_candidates: colourings drawn for a result, which has at each place what most of
                them agree on. That leaves out odd tints, and with many candidates rare colours,
                too. Several results share them, so that they differ more: each is made of an equal
                part, but of four or more (`share_candidates`). 1 keeps whatever comes, which
                samples the model's own distribution; `None` is the model's default. Two are as
                good as one. The second look draws at most four for each result.
            eta: from 0 for deterministic DDIM to 1 for ancestral sampling, whose fresh noise lets
                later steps mend what earlier ones got wrong; `None` is the model's default.
                Schedulers without it ignore it.
            generator: one a picture, or one for all. With one a picture, a picture's result does
                not depend on the others in the call.
            processing_resolution: short side at which colours are invented, in luminance pixels;
                `None` is the model's default, 0 the picture's own size. Both sides are rounded to
                what the network can take.
            second_look: a second look at pictures whose short side has this many times the
                processing resolution, at that size. From part of the way back to noise, colours
                are drawn again, with what can be seen there (Meng et al. 2022, SDEdit). It mends
                tints and tells small things from what surrounds them. 1 means one look; `None` is
                the model's default.
            match_input_resolution: `False` returns small pictures, with the short side at the
                resolution of the last look.
            hints: colours that the result has at given places: a list of [`Hint`] for one picture,
                else one such list a picture. A tuple (x, y, color) is a hint, too.
            color_image: colours that are there already: a picture as large as `image`, or chroma
                (2, h, w) as from `output_type="latent"`; a list of these for several pictures.
            mask_image: where to invent them anew: a picture as large as `image`, white there, and
                black where the colours stay, to the bit; greys mix both. New colours agree with
                those around them, and end where the light has edges. `None` means everywhere.
            strength: how far back to noise `color_image` is brought, from 0, which changes nothing,
                to 1, which forgets what was there. Without a mask, 0.3 to 0.7 gives variations.
            reference_images: pictures in colour that show the same (another print or crop, or from
                nearly the same place), or a list of them for each picture. Their colours become
                hints where the light matches; where nothing does, they change nothing.
            saturation: factor on chroma; 1 is what the model believes in.
            temperature: scale of the starting noise, and of the fresh noise where the scheduler
                takes it from outside: 1 samples, 0 gives the one most expected colouring; `None`
                is the model's default.
            batch_size: pictures through the network at a time; `None` for all of one size.
            output_type: "pil", "np" (H, W, 3), "pt" (3, H, W) or "latent": chroma a*b* (2, h, w).
            output_uncertainty: also return where the colourings disagree; two or more have to be
                drawn for a picture.
            output_intermediates: also return the clean estimate after each step, small.
            find_margins: whether even margins around a photograph, such as a scanner's lid or an
                album page, are found, kept from the network, and left neutral.
            callback_on_step_end: called as `callback(pipe, step, timestep, tensors)` after each
                step, and may return changed tensors. `step` counts through all looks and batches,
                up to `pipe.num_timesteps`; `pipe.current_look` is 1 or 2. After
                `pipe.interrupt = True` the call ends: pictures that were begun have the clean
                estimate of that step, and pictures that were not stay grey. Any
                [`PipelineCallback`] works.
            callback_on_step_end_tensor_inputs: names of the tensors it gets, `["latents"]` if not
                given: "latents"; "pred_original_sample", the clean estimate (the latents, from
                schedulers that do not return it); both of all candidates, in the network's units;
                "chroma", the colours of each result as they are shown, a*b* (N, 2, h, w).
            return_dict: `False` for the tuple (images, uncertainty, intermediates).

        Returns:
            [`ColorizationPipelineOutput`]

        Raises:
            ValueError: which names the argument that is wrong, and what would be right.
        """
        # 1. Resolve the options and check them
        images = self.image_processor.as_list(image)
        options = ColorizationOptions.resolve(
            self.config,
            strength=strength,
            num_inference_steps=num_inference_steps,
            num_samples=num_samples,
            num_candidates=num_candidates,
            eta=eta,
            temperature=temperature,
            saturation=saturation,
            processing_resolution=processing_resolution,
            second_look=second_look,
            batch_size=batch_size,
            output_type=output_type,
            output_uncertainty=output_uncertainty,
            output_intermediates=output_intermediates,
            find_margins=find_margins,
            match_input_resolution=match_input_resolution,
        )
        if isinstance(callback_on_step_end, PipelineCallback | MultiPipelineCallbacks):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        tensor_inputs = callback_on_step_end_tensor_inputs or ["latents"]
        hint_lists = hints_by_picture(hints, len(images))
        hint_lists = with_references(hint_lists, images, reference_images)
        generators = generators_by_picture(generator, len(images), torch.Generator)
        colors = colors_by_picture(color_image, mask_image, len(images))
        self.check_inputs(options, hint_lists, tensor_inputs, mends=color_image is not None)
        self._interrupt = False

        # 2. Bring each picture's luminance to the sizes at which the network looks at it
        pictures = [
            self._prepare(*picture, options)
            for picture in zip(images, hint_lists, generators, colors, strict=True)
        ]

        # 3. Draw colours, for pictures of one working size together
        self._draw(pictures, options, callback_on_step_end, tensor_inputs)
        looks = [next(look for look in reversed(p) if look.is_drawn) for p in pictures]

        # 4. Bring the colours to full size, under the luminance of the input
        output = ResultMaker(self.image_processor, self._dials(options), options).make(looks)
        self.maybe_free_model_hooks()
        if not return_dict:
            return output.images, output.uncertainty, output.intermediates
        return output

    @property
    def num_timesteps(self) -> int:
        """Denoising steps of the call in progress, over both looks and all batches."""
        return self._num_timesteps

    @property
    def current_look(self) -> int:
        """1 during the first look of the call in progress, 2 during the second."""
        return self._current_look

    @property
    def interrupt(self) -> bool:
        """Whether the call in progress is to end; a callback may set it."""
        return self._interrupt

    @interrupt.setter
    def interrupt(self, value: bool) -> None:
        self._interrupt = value

    # --- the parts of the call --------------------------------------------------------------------

    def _prepare(
        self,
        image,
        hints: list[Hint],
        generator: torch.Generator | None,
        colors: tuple[Any, Any],
        options: ColorizationOptions,
    ) -> list[Look]:
        """Return the first look at a picture, and the second where it has enough pixels."""
        light = self.image_processor.see(image)
        check_sides(*light.luminance.shape)
        mend = read_mend(*colors, light.luminance.shape)
        frame = Frame.find(light, options.find_margins)
        whole, seen = (torch.from_numpy(plane)[None] for plane in (light.luminance, light.seen))
        luminance, seen = whole[:, *frame.inside], seen[:, *frame.inside]
        hints = hints if frame.is_whole else move_hints(hints, frame.box)
        height, width = frame.inner_size
        levels = Levels.measure(seen[0].numpy())
        looks: list[Look] = []
        sizes = options.processing_resolution, options.second_look
        for size in look_resolutions(height, width, *sizes, self.image_processor.chroma_stride):
            working = levels.apply(self.image_processor.preprocess(seen, size))
            raster = None
            if self._takes_hints:
                raster = self.image_processor.rasterize_hints(hints, (height, width), size)
            first = looks[0] if looks else None
            look = Look(
                luminance, seen, frame, whole, size, working, raster, generator, previous=first
            )
            if raster is not None:
                look.certain = certain_influence(hints, (height, width), raster.shape[2:])
            if mend is not None:
                self._know(look, mend, options)
            looks.append(look)
        return looks

    def _know(self, look: Look, mend: Mend, options: ColorizationOptions) -> None:
        """Let a look know the colours that are there, and where it may change them."""
        dials, grid = self._dials(options), self._grid(look)
        saturation = dials.saturation or self.config.default_saturation
        shown = mend.chroma_on(grid, look.frame)
        given = undo_dials(shown, saturation, dials.coring, dials.texture)
        look.given = torch.from_numpy(given)[None]
        look.free = torch.from_numpy(mend.free_cells(grid, look.frame))[None, None]
        look.mend = mend

    def _draw(
        self,
        pictures: list[list[Look]],
        options: ColorizationOptions,
        callback: Callable | None,
        tensor_inputs: list[str],
    ) -> None:
        """Set the colours of all looks; looks that an interruption leaves out are grey or unset."""
        batches = [
            group_looks(
                [looks[index] for looks in pictures if index < len(looks)], options.batch_size
            )
            for index in (0, 1)
        ]
        report = StepReport(self, callback, tensor_inputs)
        sampler = ColorSampler(
            self.unet,
            self.scheduler,
            options,
            self._dials(options),
            self.config.default_saturation,
            self._execution_device,
            on_step=lambda step: report(step, sampler),
            interrupted=lambda: self._interrupt,
        )
        self._num_timesteps = sum(
            len(group) * sampler.count_steps(second_look=bool(index))
            for index, group in enumerate(batches)
            if group
        )
        with self.progress_bar(total=self._num_timesteps) as report.progress:
            for index, group in enumerate(batches):
                self._current_look = index + 1
                for batch in group:
                    self._draw_batch(sampler, batch)

    def _draw_batch(self, sampler: ColorSampler, batch: list[Look]) -> None:
        if not self._interrupt:
            sampler.color(batch, self._grid(batch[0]))
        elif batch[0].previous is None:
            for look in batch:
                leave_grey(look, sampler.options.num_samples, self._grid(look))

    def _grid(self, look: Look) -> tuple[int, int]:
        """Rows and columns of the chroma grid of a look."""
        height, width = look.working.shape[2:]
        stride = self.image_processor.chroma_stride
        return height // stride, width // stride

    def _dials(self, options: ColorizationOptions) -> ChromaDials:
        config = self.config
        return ChromaDials(
            balance=config.chroma_balance,
            texture=config.chroma_texture,
            coring=config.chroma_coring,
            saturation=options.saturation * config.default_saturation,
        )


def _with_defaults(unet, **given: float | None) -> dict[str, float]:
    """Choose the options of a pipeline: given ones, else those of the network, else plain ones.

    A network keeps the options of the first pipeline that holds it, so that
    `ColorizationPipeline(**pipe.components)` has them, too.
    """
    carried = getattr(unet, "_pipeline_defaults", _PLAIN_DEFAULTS)
    options = {name: carried[name] if value is None else value for name, value in given.items()}
    if carried is _PLAIN_DEFAULTS:
        unet._pipeline_defaults = options
    return options
