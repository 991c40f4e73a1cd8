"""EDoRA as a PEFT method: `import edora`, then `get_peft_model(model, EdoraConfig(r=16))`.

Importing this package enters EDoRA among PEFT's methods, so that a saved adapter loads again by
`PeftModel.from_pretrained`. The package knows nothing of GLUE or of any training harness.
"""

from edora.config import EdoraConfig
from edora.dora import FactoredDoraConfig
from edora.model import EdoraModel

__all__ = ["EdoraConfig", "EdoraModel", "FactoredDoraConfig"]
