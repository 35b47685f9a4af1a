"""The library behind the BioMegatron study (Shin et al. 2020). The notebooks call it; it never imports them."""

__version__ = "0.1.0"
