"""Synthetic images that do to a network what real ones do: objectives, and their optimisation.

DC (Zhao, Mopuri and Bilen, ICLR 2021) matches gradients of the loss, DM (Zhao and Bilen, WACV 2023)
mean features; facts from `main.py`, `main_DM.py` and `utils.py` of VICO-UoE/DatasetCondensation.
The images may be the pixels that are optimised, or what a differentiable function makes of latents
(`Synthesis`), as GLaD (Cazenavette et al., CVPR 2023) does it.

Every draw is named by the generation seed, the iteration and the class, and each iteration has a
fresh network. So a class's images depend on no other class, except where the network is trained on
synthetic images (`gradient_iteration` with `outer` > 1), and an interrupted optimisation needs no
more than leaves, momenta and the number of the iteration to go on.

`synthesis` has what is optimised, `images` the real images, `objectives` the distances, `problem`
puts them together, `loop` optimises. Beside them stand the parts that one method alone has.
"""
