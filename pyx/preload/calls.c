int kvo_probe(void);
__attribute__((visibility("default"))) int kvo_probe2(void) { return kvo_probe(); }
