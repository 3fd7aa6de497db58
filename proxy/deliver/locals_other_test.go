//go:build !linux || portable

package deliver

import "runtime"

const portable, abstracts = true, runtime.GOOS == "linux"
