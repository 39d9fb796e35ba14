"""The pipeline's boxes, a file each: plain functions from a context and earlier results to results.

floating   the float network that everything starts from
profile    every site at every precision, measured
draft      one policy compiled and timed before anything is trained for it
search     search, draft, refit, until a draft is inside
finetune   quantization-aware training of one policy
deploy     export, compile, verify
rivals     the same network in onnxruntime, float32 and int8
measure    all of them timed in turn
ship       the bundle
"""
