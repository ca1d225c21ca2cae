"""Linear layers in int8 on a CPU: activations to uint8, and products of uint8 and int8 summed in int32."""

from .product import Int8Weight as Int8Weight
from .product import int8_linear as int8_linear
from .product import why_slow as why_slow
from .quantize import quantize as quantize
