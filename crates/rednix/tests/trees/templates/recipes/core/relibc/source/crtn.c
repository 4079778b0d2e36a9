// Only has to be there.
typedef int nothing;
