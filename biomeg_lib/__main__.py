"""`python -m biomeg_lib` is the `biomeg` command."""

import sys

from biomeg_lib.cli import main

sys.exit(main())
