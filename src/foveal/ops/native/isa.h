// Body of one instruction set's translation unit: included in its target region, with FOVEAL_LANES and FOVEAL_ISA set.
namespace FOVEAL_ISA {
#include "simd.h"
#include "scratch.h"
#include "gelu.h"

#include "attention.h"
#include "attention_forward.h"
#include "attention_backward.h"

#include "depthwise.h"
#include "depthwise_rows.h"
#include "depthwise_forward.h"
#include "depthwise_backward.h"

#include "gelu_pool.h"

#define FOVEAL_TEXT(x) #x
#define FOVEAL_NAME(x) FOVEAL_TEXT(x)
const Kernels kernels = {FOVEAL_NAME(FOVEAL_ISA), TILE, attention_forward_workspace, attention_forward,
                         attention_backward_workspace, attention_backward,
                         depthwise_forward_workspace, depthwise_forward,
                         depthwise_backward_workspace, depthwise_backward,
                         gelu_pool_workspace, gelu_pool, gelu_pool_backward};
}  // namespace FOVEAL_ISA
