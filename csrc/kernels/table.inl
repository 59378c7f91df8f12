// The ISA's table. Included inside an ISA's namespace, after all kernels.
static const Kernels kTable = {
    kName,    kTile,    pack_row,  pack_panels, panel,     store_rows,    unpack_row, silu_mul,
    gelu_mul, soft_cap, add_norm,  norm_head,   rope_head, kv_head_bytes, store_kv,   prefetch_kv,
    attend,   merge,    peak_rows, sample,      shrink,    expand};
