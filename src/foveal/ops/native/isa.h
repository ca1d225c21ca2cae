// All kernels, for one instruction set: included in its target region, with FOVEAL_LANES and FOVEAL_ISA defined.
namespace FOVEAL_ISA {
#include "simd.h"

#include "resized_bias.h"
#include "attention.h"
#include "attention_forward.h"
#include "attention_backward.h"

#include "batch_norm.h"

#include "depthwise.h"
#include "depthwise_forward.h"
#include "depthwise_backward.h"

#include "gelu_pool.h"
#include "quantize.h"

#include "products.h"
#include "convolutional_glu.h"
#include "multiscale_ffn.h"
#include "idconv.h"

const Kernels kernels = {FOVEAL_NAME(FOVEAL_ISA), TILE, attention_forward_workspace, attention_forward,
                         attention_backward_workspace, attention_backward,
                         depthwise_forward_workspace, depthwise_forward,
                         depthwise_backward_workspace, depthwise_backward,
                         batch_norm_workspace, batch_norm_moments, batch_norm_constants, batch_norm_backward,
                         gelu_pool_workspace, gelu_pool, gelu_pool_backward, quantize_workspace, quantize,
                         convolutional_glu_workspace, convolutional_glu,
                         multiscale_ffn_workspace, multiscale_ffn, idconv_workspace, idconv};
}  // namespace FOVEAL_ISA

#undef FOVEAL_LANES
#undef FOVEAL_ISA
